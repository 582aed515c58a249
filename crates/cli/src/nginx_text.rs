//! How a text becomes a parameter in nginx's configuration.
//!
//! In single quotes nginx takes `\'`, `\"` and `\\` for the character behind the backslash, and `\t`, `\r` and `\n` for the control
//! characters; every other backslash stands for itself (`ngx_conf_read_token`). `$` means nothing there: whether a
//! parameter may hold variables is the directive's matter, and neither `proxy_wasm` nor `env` takes any.

/// The longest parameter in bytes as it is written, without its quotes: nginx reads a configuration in pieces of 4,096 bytes
/// (`NGX_CONF_BUFFER`), and a parameter with its opening quote has to be less than one.
pub(crate) const LONGEST: usize = 4_094;

/// The text as it is written between single quotes.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '\'' | '\\') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// The text in pieces, each as it is written between single quotes and none longer than `longest` bytes. No piece ends within an
/// escape or a character.
pub(crate) fn pieces(text: &str, longest: usize) -> Vec<String> {
    let mut pieces = vec![String::new()];
    for c in text.chars() {
        let escaped = escape(c.encode_utf8(&mut [0; 4]));
        if pieces.last().is_some_and(|piece| piece.len() + escaped.len() > longest) {
            pieces.push(String::new());
        }
        if let Some(piece) = pieces.last_mut() {
            piece.push_str(&escaped);
        }
    }
    pieces
}

/// The same JSON without the white space between its tokens. What is no JSON becomes something else that is none.
pub(crate) fn compact(json: &str) -> String {
    let (mut within, mut escaped) = (false, false);
    json.chars()
        .filter(|c| {
            if within {
                let ends = *c == '"' && !escaped;
                escaped = *c == '\\' && !escaped;
                within = !ends;
                return true;
            }
            within = *c == '"';
            !matches!(c, ' ' | '\t' | '\r' | '\n')
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What nginx makes of a parameter in single quotes.
    fn read(parameter: &str) -> String {
        let mut text = String::new();
        let mut rest = parameter.chars().peekable();
        while let Some(c) = rest.next() {
            match (c, rest.peek().copied()) {
                ('\\', Some(next @ ('\'' | '"' | '\\'))) => {
                    rest.next();
                    text.push(next);
                }
                ('\\', Some(next @ ('t' | 'r' | 'n'))) => {
                    rest.next();
                    text.push(match next {
                        't' => '\t',
                        'r' => '\r',
                        _ => '\n',
                    });
                }
                ('\'', _) => panic!("the parameter ends here: {parameter}"),
                _ => text.push(c),
            }
        }
        text
    }

    #[test]
    fn nginx_reads_what_was_written() {
        for text in [r#"{"a": "^/(\\d+)'\n$1 ${x} # ; {}"}"#, r"\", r"\\'", "'", "ü\t\"", r"\n"] {
            assert_eq!(read(&escape(text)), text);
            for longest in 4..12 {
                let pieces = pieces(text, longest);
                assert!(pieces.iter().all(|piece| piece.len() <= longest), "{pieces:?}");
                assert_eq!(pieces.iter().map(|piece| read(piece)).collect::<String>(), text);
            }
        }
    }

    #[test]
    fn strings_stay_as_they_are() {
        assert_eq!(compact("{ \"a b\" :\r\n\t[1, \" \\\" \\\\\" , \"é \"] }"), "{\"a b\":[1,\" \\\" \\\\\",\"é \"]}");
    }
}
