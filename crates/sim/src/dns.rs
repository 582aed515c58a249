//! A name server's answers.

use std::collections::HashMap;
use std::net::IpAddr;

/// A name server's answer to a question, both with their lengths before them: the addresses of a name and the seconds for which they
/// hold, or that there is no such name.
#[must_use]
pub fn answer(question: &[u8], names: &HashMap<String, (Vec<IpAddr>, u32)>) -> Vec<u8> {
    let mut labels = Vec::new();
    let mut rest = question.get(14..).unwrap_or_default();
    while let Some((length, tail)) = rest.split_first().filter(|(length, _)| **length > 0) {
        let (label, tail) = tail.split_at_checked(usize::from(*length)).unwrap_or_default();
        labels.push(String::from_utf8_lossy(label).into_owned());
        rest = tail;
    }
    let wants_v4 = rest.get(2) == Some(&1);
    let known = names.get(&labels.join("."));
    let mut answer = question.get(2..).unwrap_or_default().to_vec();
    let mut records = Vec::new();
    let mut count = 0;
    let (addresses, seconds) = known.map_or((&[][..], 0), |(addresses, seconds)| (addresses, *seconds));
    for address in addresses.iter().filter(|address| address.is_ipv4() == wants_v4) {
        let (kind, data) = match address {
            IpAddr::V4(address) => (1, address.octets().to_vec()),
            IpAddr::V6(address) => (28, address.octets().to_vec()),
        };
        records.extend_from_slice(&[0xc0, 0x0c, 0, kind, 0, 1]);
        records.extend_from_slice(&seconds.to_be_bytes());
        records.extend_from_slice(&[0, data.len() as u8]);
        records.extend_from_slice(&data);
        count += 1;
    }
    for (at, byte) in [(2, 0x81), (3, if known.is_some() { 0x80 } else { 0x83 }), (7, count)] {
        if let Some(slot) = answer.get_mut(at) {
            *slot = byte;
        }
    }
    answer.extend_from_slice(&records);
    let mut framed = (answer.len() as u16).to_be_bytes().to_vec();
    framed.append(&mut answer);
    framed
}
