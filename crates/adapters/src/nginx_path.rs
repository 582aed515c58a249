//! The path of a request as nginx's locations see it.
//!
//! nginx matches its locations on a path that it made normal, and sends the client's own spelling on. Routes that matched the latter could be
//! dodged: `/x/../admin` and `/%61dmin` are both `/admin` to a location, and to many servers. So it is made normal here, as Envoy's
//! `normalize_path` does it (RFC 3986, 5.2.4 and 6.2.2.2), with two steps more that nginx takes: slashes in a row are one
//! (`merge_slashes`), and an encoded slash beside a dot or a slash counts as one. Other encoded bytes stay encoded.

/// The target of a request with its path made normal. What has no path stays as it is.
pub(crate) fn normal(target: Vec<u8>) -> Vec<u8> {
    let end = target.iter().position(|byte| matches!(byte, b'?' | b'#')).unwrap_or(target.len());
    let (path, rest) = target.split_at(end);
    // nginx ends a path at `#`, and knows no query behind it.
    let query = if rest.first() == Some(&b'?') { rest } else { &[] };
    let is_plain = |pair: &[u8]| !matches!(pair, [b'/', b'/' | b'.'] | [b'%', _] | [_, b'%']);
    if path.first() != Some(&b'/') || (path.windows(2).all(is_plain) && query.len() == rest.len()) {
        return target;
    }
    let mut made = Vec::with_capacity(target.len());
    let decoded = with_slashes(&unreserved(path));
    let mut segments = decoded.split(|byte| *byte == b'/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        match segment {
            b"" | b"." => {}
            b".." => made.truncate(made.iter().rposition(|byte| *byte == b'/').unwrap_or(0)),
            _ => {
                made.push(b'/');
                made.extend_from_slice(segment);
                continue;
            }
        }
        if segments.peek().is_none() {
            made.push(b'/');
        }
    }
    made.extend_from_slice(query);
    made
}

/// The byte that these three encode, and what is behind them.
fn encoded(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let ([b'%', high, low], rest) = bytes.split_first_chunk()? else { return None };
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some((digit(high)? * 16 + digit(low)?, rest))
}

/// Without the encoding of bytes that need none.
fn unreserved(path: &[u8]) -> Vec<u8> {
    let (mut decoded, mut rest) = (Vec::with_capacity(path.len()), path);
    while let Some((first, others)) = rest.split_first() {
        match encoded(rest) {
            Some((byte, behind)) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                decoded.push(byte);
                rest = behind;
            }
            _ => {
                decoded.push(*first);
                rest = others;
            }
        }
    }
    decoded
}

/// What is behind an encoded slash.
fn slash(bytes: &[u8]) -> Option<&[u8]> {
    encoded(bytes).filter(|(byte, _)| *byte == b'/').map(|(_, behind)| behind)
}

/// With slashes in place of those encoded ones that make a step of the path.
fn with_slashes(path: &[u8]) -> Vec<u8> {
    let (mut decoded, mut rest) = (Vec::with_capacity(path.len()), path);
    while let Some((first, others)) = rest.split_first() {
        let is_step = |behind: &[u8]| {
            matches!(decoded.last(), Some(b'/' | b'.'))
                || matches!(behind.first(), Some(b'/' | b'.'))
                || slash(behind).is_some()
        };
        if let Some(behind) = slash(rest).filter(|behind| is_step(behind)) {
            decoded.push(b'/');
            rest = behind;
        } else {
            decoded.push(*first);
            rest = others;
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn is(target: &str, expected: &str) {
        assert_eq!(String::from_utf8_lossy(&normal(target.as_bytes().to_vec())), expected, "{target}");
    }

    #[test]
    fn dots_and_slashes_are_resolved() {
        for admin in [
            "/admin",
            "/x/../admin",
            "/./admin",
            "//admin",
            "/x/.././//admin",
            "/../../admin",
            "/%61dm%69n",
            "/%2e/admin",
            "/x/%2E%2e/admin",
            "/x/.%2e/admin",
            "/x/..%2fadmin",
            "/x%2F..%2Fadmin",
            "/%2fadmin",
            "/%2f%2fadmin",
            "/.%2Fadmin",
        ] {
            is(admin, "/admin");
            is(&format!("{admin}?a=/../%61//#"), "/admin?a=/../%61//#");
            is(&format!("{admin}/"), "/admin/");
            is(&format!("{admin}/."), "/admin/");
            is(&format!("{admin}/x/.."), "/admin/");
            is(&format!("{admin}/x//"), "/admin/x/");
            is(&format!("{admin}#/x?y"), "/admin");
        }
        is("/", "/");
        is("//", "/");
        is("/..", "/");
        is("/x/..?", "/?");
    }

    #[test]
    fn what_is_a_name_stays() {
        for target in [
            "/a%2Fb",
            "/a%20b/%5B::1%5D:80",
            "/.well-known/x",
            "/...",
            "/a..b/..c",
            "/a%",
            "/a%2",
            "/a%zz",
            "/é%c3",
            "*",
            "",
            "/a%2Fb?x=%61",
            "/?//",
            "10.0.0.1:80",
            "/%252e%252e/",
        ] {
            is(target, target);
        }
    }

    #[test]
    fn what_is_normal_stays_normal() {
        for seed in 0..4_000_u32 {
            let parts = ["/", ".", "..", "%2f", "%2E", "a", "%", "%41", "?", "#", "/%2f", "%25"];
            let pick =
                |at: u32| parts[(seed.wrapping_mul(2_654_435_761).rotate_left(at * 5) >> 7) as usize % parts.len()];
            let target = format!("/{}", (0..6).map(pick).collect::<String>());
            let once = normal(target.clone().into_bytes());
            assert!(once.first() == Some(&b'/'), "{target}");
            let path = once.split(|byte| *byte == b'?').next().unwrap_or_default();
            assert!(!path.windows(2).any(|pair| pair == b"//"), "{target}");
            assert!(path.split(|byte| *byte == b'/').all(|segment| segment != b".." && segment != b"."), "{target}");
        }
    }
}
