//! What keeps an upstream's monitors, or the resolver, from asking anybody. That is no peer's fault, and says nothing of any.

use crate::model::spec::MonitorSpec;

/// As many bytes are kept, and what was said longest ago goes first: nobody says that a monitor is gone.
const MOST: usize = 16_384;

/// What keeps whom from asking, in sentences. Each is the number of who asks, the length, both little endian, and the text: one
/// more type that is serialized would add kilobytes to the filter.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Obstacles(Vec<u8>);

impl Obstacles {
    /// What keeps this monitor, or without one the resolver, from asking.
    pub(crate) fn of(&self, monitor: Option<&MonitorSpec>) -> Option<&str> {
        let (asks, mut rest) = (number(monitor), self.0.as_slice());
        while let Some((known, why)) = take(&mut rest) {
            if known == asks {
                return Some(why);
            }
        }
        None
    }

    /// Says what does now, or that nothing does.
    pub(crate) fn set(&mut self, monitor: Option<&MonitorSpec>, why: Option<&str>) {
        let (asks, before) = (number(monitor), std::mem::take(&mut self.0));
        why.iter().for_each(|why| self.put(asks, why));
        let mut rest = before.as_slice();
        while let Some((known, why)) = take(&mut rest) {
            if known != asks {
                self.put(known, why);
            }
        }
    }

    fn put(&mut self, number: u32, why: &str) {
        let length = u16::try_from(why.len()).ok().filter(|_| self.0.len() < MOST);
        if let Some(length) = length {
            self.0.extend_from_slice(&number.to_le_bytes());
            self.0.extend_from_slice(&length.to_le_bytes());
            self.0.extend_from_slice(why.as_bytes());
        }
    }

    pub(crate) fn encode(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn decode(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

/// What tells a monitor from others, earlier ones of its id too; 0 for the resolver.
fn number(monitor: Option<&MonitorSpec>) -> u32 {
    monitor.map_or(0, |monitor| monitor.number)
}

/// Takes one off the beginning. What cannot be read is the end.
fn take<'b>(bytes: &mut &'b [u8]) -> Option<(u32, &'b str)> {
    let (number, rest) = bytes.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let (why, rest) = rest.split_at_checked(u16::from_le_bytes(*length).into())?;
    *bytes = rest;
    Some((u32::from_le_bytes(*number), std::str::from_utf8(why).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::test;

    #[test]
    fn each_has_its_own() {
        let [tcp, http] = [3, 4].map(|number| MonitorSpec { number, ..MonitorSpec::default() });
        let mut obstacles = Obstacles::default();
        obstacles.set(Some(&tcp), Some("no gateway"));
        obstacles.set(None, Some("none either"));
        obstacles.set(Some(&http), None);
        let shown = |obstacles: &Obstacles| {
            [Some(&tcp), Some(&http), None].map(|monitor| obstacles.of(monitor).map(str::to_owned))
        };
        assert_eq!(shown(&obstacles), [Some("no gateway".to_owned()), None, Some("none either".to_owned())]);
        obstacles.set(Some(&tcp), Some("no cluster"));
        obstacles.set(None, None);
        assert_eq!(shown(&obstacles), [Some("no cluster".to_owned()), None, None]);
        obstacles.set(Some(&tcp), None);
        assert_eq!(obstacles, Obstacles::default());
    }

    #[test]
    fn they_are_bounded_and_foreign_bytes_are_none() {
        let monitor = |number| MonitorSpec { number, ..MonitorSpec::default() };
        let mut obstacles = Obstacles::default();
        (1..1_000).for_each(|number| obstacles.set(Some(&monitor(number)), Some("the gateway is not there")));
        assert!(obstacles.encode().len() < MOST + 100);
        assert!(obstacles.of(Some(&monitor(999))).is_some() && obstacles.of(Some(&monitor(1))).is_none());
        let bytes = obstacles.encode().to_vec();
        for cut in 0..40 {
            assert!(Obstacles::decode(bytes[..cut].to_vec()).of(Some(&monitor(998))).is_none());
        }
        assert_eq!(Obstacles::decode(b"\x05\0\0\0\x01\0\xff".to_vec()).of(Some(&monitor(5))), None);
    }
}
