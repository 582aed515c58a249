//! Header maps, and their form in a module's memory.

/// Names, in lower case, with their values, in their order.
pub type Pairs = Vec<(String, Vec<u8>)>;

/// The first value of a name.
pub(crate) fn get<'p>(pairs: &'p Pairs, name: &str) -> Option<&'p [u8]> {
    pairs.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_slice())
}

/// Replaces all values of a name by one, at the place of the first.
pub(crate) fn replace(pairs: &mut Pairs, name: &str, value: &[u8]) {
    let at = pairs.iter().position(|(found, _)| found.eq_ignore_ascii_case(name));
    remove(pairs, name);
    let at = at.unwrap_or(pairs.len()).min(pairs.len());
    pairs.insert(at, (name.to_ascii_lowercase(), value.to_vec()));
}

/// Removes all values of a name.
pub(crate) fn remove(pairs: &mut Pairs, name: &str) {
    pairs.retain(|(found, _)| !found.eq_ignore_ascii_case(name));
}

/// Text pairs as a header map.
pub(crate) fn of(pairs: &[(String, String)]) -> Pairs {
    pairs.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone().into_bytes())).collect()
}

/// The number of pairs, the sizes of each name and value, then each with a zero byte behind it.
pub(crate) fn encode(pairs: &Pairs) -> Vec<u8> {
    let mut out = Vec::new();
    let mut size = |number: usize| out.extend_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
    size(pairs.len());
    for (name, value) in pairs {
        size(name.len());
        size(value.len());
    }
    for (name, value) in pairs {
        for text in [name.as_bytes(), value] {
            out.extend_from_slice(text);
            out.push(0);
        }
    }
    out
}

/// The reverse of [`encode`]; `None` if that is not what it is.
pub(crate) fn decode(bytes: &[u8]) -> Option<Pairs> {
    if bytes.is_empty() {
        return Some(Pairs::new());
    }
    let number = |at: usize| -> Option<usize> {
        let four = bytes.get(at..at.checked_add(4)?)?;
        usize::try_from(u32::from_le_bytes(four.try_into().ok()?)).ok()
    };
    let count = number(0)?;
    let mut at = count.checked_mul(8)?.checked_add(4)?;
    let mut text = |size: usize| -> Option<Vec<u8>> {
        let end = at.checked_add(size)?;
        let found = bytes.get(at..end)?.to_vec();
        at = end.checked_add(1)?;
        Some(found)
    };
    let mut pairs = Pairs::new();
    for pair in 0..count {
        let name = text(number(4 + pair * 8)?)?;
        let value = text(number(8 + pair * 8)?)?;
        pairs.push((String::from_utf8_lossy(&name).to_ascii_lowercase(), value));
    }
    Some(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded() {
        let pairs = vec![("a".to_owned(), b"1".to_vec()), ("b".to_owned(), Vec::new())];
        assert_eq!(decode(&encode(&pairs)), Some(pairs));
        assert_eq!(decode(b""), Some(Pairs::new()));
        assert_eq!(decode(b"\x02\0\0\0"), None);
    }

    #[test]
    fn replacing_leaves_one_of_many_at_the_first_one_s_place() {
        let mut pairs =
            of(&[("A", "1"), ("b", "2"), ("a", "3")].map(|(name, value)| (name.to_owned(), value.to_owned())));
        replace(&mut pairs, "a", b"4");
        assert_eq!(pairs, [("a".to_owned(), b"4".to_vec()), ("b".to_owned(), b"2".to_vec())]);
        assert_eq!(get(&pairs, "A"), Some(b"4".as_slice()));
    }
}
