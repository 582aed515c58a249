//! Columns for people: aligned with spaces, one row a line, no lines drawn, so that `awk` and `sort` can read them too.

use comfy_table::{presets, CellAlignment, Table};

use crate::text::one_line;

/// To which side the cells of a column go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A header and rows as text, every line with its end and without spaces before it.
///
/// An empty cell becomes `-`, so that every row has as many words as the header has; only the last column, which may hold
/// sentences, stays empty.
pub(crate) fn render<const N: usize>(
    columns: [(&str, Align); N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(columns.map(|(name, _)| name));
    for (column, (_, align)) in table.column_iter_mut().zip(columns) {
        column.set_padding((0, 2)).set_cell_alignment(match align {
            Align::Left => CellAlignment::Left,
            Align::Right => CellAlignment::Right,
        });
    }
    for row in rows {
        let mut column = 0;
        table.add_row(row.map(|cell| {
            column += 1;
            if cell.is_empty() && column < N {
                "-".to_owned()
            } else {
                one_line(&cell)
            }
        }));
    }
    table.trim_fmt() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let columns = [("NAME", Align::Left), ("N", Align::Right), ("WHY", Align::Left)];
        let rows = [["ü".into(), "1234".into(), "it\nwas".into()], ["longest".into(), String::new(), String::new()]];
        assert_eq!(
            render(columns, rows),
            "\
NAME        N  WHY
ü        1234  it was
longest     -
"
        );
    }

    #[test]
    fn a_character_may_be_two_columns_wide() {
        let rows = [["倉庫".into(), "1".into()], ["web".into(), "2".into()]];
        let table = render([("NAME", Align::Left), ("N", Align::Left)], rows);
        assert_eq!(table, "NAME  N\n倉庫  1\nweb   2\n");
    }

    #[test]
    fn a_table_without_rows_is_its_header() {
        assert_eq!(render([("A", Align::Right), ("B", Align::Left)], []), "A  B\n");
    }
}
