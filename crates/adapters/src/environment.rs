//! A configuration that comes from the process's environment, for nginx: its directives hold no more than 4,094 bytes.

/// How a configuration begins that only names where it is.
const MARK: &[u8] = b"env ";

/// The name of the variable that the configuration says to be in, if it is not the configuration itself.
pub(crate) fn name(text: &[u8]) -> Option<&[u8]> {
    text.trim_ascii().strip_prefix(MARK).map(<[u8]>::trim_ascii)
}

/// What the variables `NAME_1`, `NAME_2` and so on hold, one behind the other, or else what `NAME` holds. `None` if there is neither.
///
/// `variables` are those of the environment, as C has them: `NAME=value`, each with a zero behind it.
pub(crate) fn read(name: &[u8], variables: &[u8]) -> Option<Vec<u8>> {
    let value = |name: &[u8]| {
        variables.split(|byte| *byte == 0).find_map(|variable| variable.strip_prefix(name)?.strip_prefix(b"="))
    };
    let part = |number: u32| value(&[name, b"_", number.to_string().as_bytes()].concat());
    let parts: Vec<&[u8]> = (1..).map_while(part).collect();
    if parts.is_empty() {
        return value(name).map(<[u8]>::to_vec);
    }
    Some(parts.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_put_together_in_their_order() {
        let variables = b"PATH=/bin\0F_2=\"b\"}\0F=not this\0F_1={\"a\":\0F_10=no\0F_4=no\0G=={}\0F_1X=no\0";
        assert_eq!(name(b" env  F\n"), Some(b"F".as_slice()));
        assert_eq!(name(b"{\"upstreams\": {}}"), None);
        assert_eq!(name(b"caller"), None);
        assert_eq!(read(b"F", variables).as_deref(), Some(b"{\"a\":\"b\"}".as_slice()));
        assert_eq!(read(b"G", variables).as_deref(), Some(b"={}".as_slice()));
        assert_eq!(read(b"H", variables), None);
        assert_eq!(read(b"", variables), None);
    }
}
