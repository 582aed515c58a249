//! Routes: which upstream serves a request.
//!
//! The first route that matches wins, and a request that matches none passes untouched. A configuration
//! may hold a thousand routes, so they are not tried one by one: each is filed under one literal
//! condition (its path, else its prefix, else its host), and only those whose literal fits the request
//! are tried, in the order of the configuration. Routes without a literal are always tried.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::rc::Rc;

use regex_lite::Regex;

use crate::bits::sorted;
use crate::model::template::Template;
use crate::request::Request;

/// The longest path that is matched against a regex. The time that takes grows with the path, which is the client's to choose,
/// and nobody else is served by this worker meanwhile.
pub(crate) const LONGEST_PATH: usize = 2048;

/// Whether the route at this position matches is not known: its regex does not look at paths as long as this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PathTooLong(pub(crate) usize);

/// One route. All conditions that it has must match.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    /// How the path without the query begins.
    pub(crate) prefix: Option<String>,
    /// The whole path without the query.
    pub(crate) path: Option<String>,
    /// A regular expression that finds something in the path without the query.
    pub(crate) regex: Option<Rc<Regex>>,
    /// The requested host in lower case, without the port.
    pub(crate) host: Option<String>,
    /// The request method, case-sensitive.
    pub(crate) method: Option<String>,
    /// The name of the upstream.
    pub(crate) upstream: Template,
}

impl Route {
    /// A route that matches everything.
    #[must_use]
    pub(crate) fn to(upstream: Template) -> Self {
        Self { prefix: None, path: None, regex: None, host: None, method: None, upstream }
    }

    /// Whether the request matches this route, which is at that position.
    fn matches(&self, at: usize, request: &Request<'_>) -> Result<bool, PathTooLong> {
        let literals = self.path.as_ref().is_none_or(|path| request.path() == path.as_bytes())
            && self.prefix.as_ref().is_none_or(|prefix| request.path().starts_with(prefix.as_bytes()))
            && self.method.as_ref().is_none_or(|method| request.method() == method.as_bytes())
            && self.host.as_ref().is_none_or(|host| request.host() == host.as_bytes());
        match &self.regex {
            Some(_) if literals && request.path().len() > LONGEST_PATH => Err(PathTooLong(at)),
            Some(regex) => Ok(literals && request.matches(regex, self.upstream.wants_groups())),
            None => Ok(literals),
        }
    }
}

impl fmt::Display for Route {
    /// What a request must have to match.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let regex = self.regex.as_ref().map(|regex| regex.as_str());
        let conditions = [
            ("path", self.path.as_deref()),
            ("prefix", self.prefix.as_deref()),
            ("regex", regex),
            ("host", self.host.as_deref()),
            ("method", self.method.as_deref()),
        ];
        let mut separator = "";
        for (name, condition) in conditions {
            if let Some(condition) = condition {
                write!(f, "{separator}{name} {condition}")?;
                separator = ", ";
            }
        }
        if separator.is_empty() {
            f.write_str("all requests")?;
        }
        Ok(())
    }
}

/// All routes of a configuration.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    routes: Vec<Route>,
    by_path: HashMap<Vec<u8>, Vec<usize>>,
    /// By the prefix's length, then by the prefix.
    by_prefix: BTreeMap<usize, HashMap<Vec<u8>, Vec<usize>>>,
    by_host: HashMap<Vec<u8>, Vec<usize>>,
    others: Vec<usize>,
}

impl Routes {
    /// Files the routes under their literals.
    #[must_use]
    pub(crate) fn new(routes: Vec<Route>) -> Self {
        let mut filed = Self::default();
        for (at, route) in routes.iter().enumerate() {
            let bytes = |text: &String| text.clone().into_bytes();
            let shelf = if let Some(path) = &route.path {
                filed.by_path.entry(bytes(path)).or_default()
            } else if let Some(prefix) = route.prefix.as_ref().filter(|prefix| !prefix.is_empty()) {
                filed.by_prefix.entry(prefix.len()).or_default().entry(bytes(prefix)).or_default()
            } else if let Some(host) = &route.host {
                filed.by_host.entry(bytes(host)).or_default()
            } else {
                &mut filed.others
            };
            shelf.push(at);
        }
        filed.routes = routes;
        filed
    }

    /// The number of routes.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.routes.len()
    }

    /// The routes, in their order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Route> {
        self.routes.iter()
    }

    /// The route at that position.
    pub(crate) fn get(&self, position: usize) -> Option<&Route> {
        self.routes.get(position)
    }

    /// The first route that matches, with its position.
    ///
    /// # Errors
    ///
    /// [`PathTooLong`] when the path is too long for the regex of a route before that one. The request may then go nowhere: not
    /// to a later route, and not untouched to where only requests go that no route is meant for.
    pub(crate) fn find(&self, request: &Request<'_>) -> Result<Option<(usize, &Route)>, PathTooLong> {
        let Some(first) = self.routes.first() else { return Ok(None) };
        let is_first = self.others.first() == Some(&0);
        if is_first && first.matches(0, request)? {
            return Ok(Some((0, first)));
        }
        let mut fitting: Vec<&[usize]> = vec![&self.others];
        if !self.by_path.is_empty() {
            fitting.extend(self.by_path.get(request.path()).map(Vec::as_slice));
        }
        for (length, prefixes) in &self.by_prefix {
            let Some(start) = request.path().get(..*length) else { break };
            fitting.extend(prefixes.get(start).map(Vec::as_slice));
        }
        if !self.by_host.is_empty() {
            fitting.extend(self.by_host.get(request.host()).map(Vec::as_slice));
        }
        let fitting = sorted(fitting.into_iter().flatten().map(|at| *at as u128));
        for at in fitting.into_iter().skip(usize::from(is_first)).map(|at| at as usize) {
            if let Some(route) = self.routes.get(at) {
                if route.matches(at, request)? {
                    return Ok(Some((at, route)));
                }
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::test;
    use durpina_sim::{Sent, Sim};

    fn route() -> Route {
        Route::to(Template::parse("u").unwrap())
    }

    fn found(routes: &Routes, sent: Sent) -> Option<usize> {
        let sim = Sim::new();
        let host = sim.worker();
        host.receive(sent);
        routes.find(&Request::new(&host)).unwrap().map(|(at, _)| at)
    }

    #[test]
    fn the_first_match_wins_whatever_it_is_filed_under() {
        let text = |s: &str| Some(s.to_owned());
        let routes = Routes::new(vec![
            Route { path: text("/a/b"), ..route() },
            Route { regex: Some(Rc::new(Regex::new("^/a/[0-9]+$").unwrap())), ..route() },
            Route { prefix: text("/a/"), method: text("POST"), ..route() },
            Route { host: text("example.com"), ..route() },
            Route { prefix: text("/a"), ..route() },
            Route { method: text("PUT"), ..route() },
            Route { prefix: text(""), host: text("late.example"), ..route() },
        ]);
        assert_eq!(found(&routes, Sent::get("/a/b?c=d")), Some(0));
        assert_eq!(found(&routes, Sent::get("/a/17")), Some(1));
        assert_eq!(found(&routes, Sent::get("/a/x").method("POST")), Some(2));
        assert_eq!(found(&routes, Sent::get("/a/x").authority("EXAMPLE.com:80")), Some(3));
        assert_eq!(found(&routes, Sent::get("/a/x")), Some(4));
        assert_eq!(found(&routes, Sent::get("/ab")), Some(4));
        assert_eq!(found(&routes, Sent::get("/b").method("PUT")), Some(5));
        assert_eq!(found(&routes, Sent::get("/b").authority("late.example")), Some(6));
        assert_eq!(found(&routes, Sent::get("/b")), None);
        assert_eq!(found(&routes, Sent::get("")), None);
    }

    #[test]
    fn a_path_of_any_bytes_is_no_trouble() {
        let routes = Routes::new(vec![Route { regex: Some(Rc::new(Regex::new("^/(.)x").unwrap())), ..route() }]);
        assert_eq!(found(&routes, Sent::get("/\u{0}x")), Some(0));
        assert_eq!(found(&routes, Sent::bytes(b"/\xffx")), Some(0));
        assert_eq!(found(&routes, Sent::bytes(&[0xff; LONGEST_PATH])), None);
    }
}
