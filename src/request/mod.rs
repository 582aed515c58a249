//! The request in hand, as routes and variables see it.
//!
//! Every host call costs a part of a microsecond, so each value is asked for once, and only when a
//! route or a variable needs it.

pub(crate) mod maps;
pub(crate) mod routes;

use std::borrow::Cow;
use std::cell::OnceCell;
use std::rc::Rc;

use regex_lite::Regex;

use self::maps::Maps;
use crate::host::RequestHost;
use crate::model::template::{Template, Values, Variable};

/// A request, read through its host as far as it is needed.
pub(crate) struct Request<'h> {
    host: &'h dyn RequestHost,
    target: OnceCell<Vec<u8>>,
    method: OnceCell<Vec<u8>>,
    authority: OnceCell<Vec<u8>>,
    /// The matched route's regex.
    regex: OnceCell<Rc<Regex>>,
    /// Its groups, the first at index 0.
    groups: OnceCell<Vec<Vec<u8>>>,
    /// The configuration's maps, if it has any.
    maps: Option<&'h Maps>,
}

impl<'h> Request<'h> {
    /// The request that `host` is handling.
    #[must_use]
    pub(crate) fn new(host: &'h dyn RequestHost) -> Self {
        Self {
            host,
            target: OnceCell::new(),
            method: OnceCell::new(),
            authority: OnceCell::new(),
            regex: OnceCell::new(),
            groups: OnceCell::new(),
            maps: None,
        }
    }

    /// The same request with the maps of a configuration.
    #[must_use]
    pub(crate) fn with_maps(mut self, maps: &'h Maps) -> Self {
        self.maps = Some(maps);
        self
    }

    /// The path with the query.
    pub(crate) fn target(&self) -> &[u8] {
        self.target.get_or_init(|| self.host.path())
    }

    /// The path without the query.
    pub(crate) fn path(&self) -> &[u8] {
        split(self.target(), b'?').0
    }

    /// The query, without the question mark.
    pub(crate) fn query(&self) -> &[u8] {
        split(self.target(), b'?').1
    }

    /// The method.
    pub(crate) fn method(&self) -> &[u8] {
        self.method.get_or_init(|| self.host.method())
    }

    /// The requested host in lower case, without the port.
    pub(crate) fn host(&self) -> &[u8] {
        self.authority.get_or_init(|| {
            let mut authority = self.host.authority();
            let bracket = authority.iter().rposition(|b| *b == b']').unwrap_or(0);
            if let Some(colon) = authority.iter().rposition(|b| *b == b':').filter(|colon| *colon > bracket) {
                authority.truncate(colon);
            }
            authority.make_ascii_lowercase();
            authority
        })
    }

    /// Whether the regex finds something in the path; if so, its groups can be asked for. `wanted` says that they will be.
    pub(crate) fn matches(&self, regex: &Rc<Regex>, wanted: bool) -> bool {
        let path = String::from_utf8_lossy(self.path());
        if wanted {
            let Some(found) = groups(regex, &path) else { return false };
            return self.groups.set(found).is_ok() && self.regex.set(Rc::clone(regex)).is_ok();
        }
        regex.is_match(&path) && self.regex.set(Rc::clone(regex)).is_ok()
    }

    /// The text of a group of the matched route's regex.
    fn group(&self, number: usize) -> &[u8] {
        // The upstream's balancer may ask for groups that the route does not want.
        let search = || self.regex.get().and_then(|regex| groups(regex, &String::from_utf8_lossy(self.path())));
        let groups = self.groups.get_or_init(|| search().unwrap_or_default());
        groups.get(number.wrapping_sub(1)).map(Vec::as_slice).unwrap_or_default()
    }

    /// Appends a template's text for this request to `out`.
    pub(crate) fn render(&self, template: &Template, out: &mut Vec<u8>) {
        template.render(out, |variable, out| self.append(variable, out));
    }

    /// The value of a group of the matched route's regex, or of a map.
    fn named(&self, name: &str, out: &mut Vec<u8>) {
        let position = |regex: &Rc<Regex>| regex.capture_names().position(|known| known == Some(name));
        if let Some(group) = self.regex.get().and_then(position) {
            out.extend_from_slice(self.group(group));
        } else if let Some(map) = self.maps.and_then(|maps| maps.get(name)) {
            let mut key = Vec::new();
            map.from().into_iter().for_each(|from| self.render(from, &mut key));
            map.value(&key).into_iter().for_each(|value| self.render(value, out));
        }
    }

    fn value(&self, variable: &Variable) -> Cow<'_, [u8]> {
        match variable {
            Variable::RemoteAddr => self.host.client().map(|ip| ip.to_string().into_bytes()).unwrap_or_default().into(),
            Variable::Host => self.host().into(),
            Variable::Uri => self.path().into(),
            Variable::RequestUri => self.target().into(),
            Variable::Args => self.query().into(),
            Variable::Arg(name) => argument(self.query(), name.as_bytes()).into(),
            Variable::Header(name) => self.host.header(name).unwrap_or_default().into(),
            Variable::Cookie(name) => {
                let cookies = self.host.header("cookie").unwrap_or_default();
                cookie(&cookies, name.as_bytes()).to_vec().into()
            }
            Variable::Method => self.method().into(),
            Variable::Group(group) => self.group(*group).into(),
            Variable::ClusterName => self.host.cluster_name().unwrap_or_default().into(),
            Variable::RouteName => self.host.route_name().unwrap_or_default().into(),
            Variable::Property(path) => {
                let path: Vec<&str> = path.iter().map(String::as_str).collect();
                self.host.property(&path).unwrap_or_default().into()
            }
            Variable::Named(name) => {
                let mut out = Vec::new();
                self.named(name, &mut out);
                out.into()
            }
        }
    }
}

impl Values for Request<'_> {
    fn append(&self, variable: &Variable, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.value(variable));
    }
}

/// The texts of a regex's groups, if it finds something.
fn groups(regex: &Regex, path: &str) -> Option<Vec<Vec<u8>>> {
    let found = regex.captures(path)?;
    let group = |at| found.get(at).map(|group| group.as_str().as_bytes().to_vec()).unwrap_or_default();
    Some((1..found.len()).map(group).collect())
}

/// What stands before and after the first `at`; nothing after if there is none.
fn split(text: &[u8], at: u8) -> (&[u8], &[u8]) {
    let mut parts = text.splitn(2, |b| *b == at);
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
}

/// The first parameter of that name in a query. Nothing is decoded, as in nginx.
fn argument<'q>(query: &'q [u8], name: &[u8]) -> &'q [u8] {
    let found = query.split(|b| *b == b'&').map(|pair| split(pair, b'=')).find(|(key, _)| *key == name);
    found.map(|(_, value)| value).unwrap_or_default()
}

/// The first cookie of that name in a `Cookie` header (RFC 6265, section 4.2.1).
fn cookie<'c>(header: &'c [u8], name: &[u8]) -> &'c [u8] {
    // Copies of the header arrive joined by a comma, from HTTP/2 clients by "; ".
    let pairs = header.split(|b| matches!(b, b';' | b','));
    let found = pairs.map(|pair| split(pair.trim_ascii(), b'=')).find(|(key, _)| *key == name);
    found.map(|(_, value)| value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::test;
    use durpina_sim::{Sent, Sim};

    fn rendered(sent: Sent, template: &str, wanted: bool) -> String {
        let sim = Sim::new();
        let host = sim.worker();
        host.receive(sent);
        let request = Request::new(&host);
        assert!(request.matches(&Rc::new(Regex::new("^(/?a?)(b?)").unwrap()), wanted));
        let mut out = Vec::new();
        request.render(&Template::parse(template).unwrap(), &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    /// How long a header is is the client's to choose, and what a text does with it the configuration's.
    #[test]
    fn a_text_has_an_end() {
        let sent = || Sent::get("/").header("x-long", &"x".repeat(50_000));
        assert_eq!(rendered(sent(), "$http_x_long$http_x_long", false).len(), 65_536);
        assert_eq!(rendered(sent(), &"$http_x_long".repeat(1_000), false).len(), 65_536);
        assert_eq!(rendered(sent(), "$http_x_long-", false).len(), 50_001);
    }

    #[test]
    fn variables_have_the_request_s_values() {
        let sent = || {
            Sent::get("/a/b?x=1&y=&x=2&y=3")
                .authority("Example.COM:8000")
                .header("cookie", "a=1; sid=abc,b=2")
                .header("x-tenant", "red")
                .client("192.0.2.7")
        };
        for (template, value) in [
            ("$remote_addr", "192.0.2.7"),
            ("$host", "example.com"),
            ("$uri", "/a/b"),
            ("$request_uri", "/a/b?x=1&y=&x=2&y=3"),
            ("$args", "x=1&y=&x=2&y=3"),
            ("$arg_x,$arg_y,$arg_z", "1,,"),
            ("$http_x_tenant$http_none", "red"),
            ("$cookie_sid $cookie_b $cookie_none", "abc 2 "),
            ("$request_method", "GET"),
            ("$1,$2,$3", "/a,,"),
            ("${property:none}", ""),
        ] {
            for wanted in [true, false] {
                assert_eq!(rendered(sent(), template, wanted), value, "{template}");
            }
        }
        assert_eq!(rendered(Sent::get("/").authority("[::1]:80"), "$host", false), "[::1]");
        assert_eq!(rendered(Sent::get("/").authority("[::1]"), "$host", false), "[::1]");
        assert_eq!(rendered(Sent::get(""), "$uri$args$host", false), "");
    }
}
