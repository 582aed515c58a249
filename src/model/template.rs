//! Texts with variables, as in `"upstream": "$cookie_pool"` or `"key": "$remote_addr$request_uri"`.
//!
//! A variable is `$name` or `${name}`; `$$` stands for a dollar sign. A variable that a request does not
//! have is the empty string, as in nginx.

use serde::{Deserialize, Serialize};

/// The names of the variables, for errors.
const KNOWN: &str = "$remote_addr, $host, $uri, $request_uri, $args, $arg_NAME, $http_NAME, $cookie_NAME, \
                     $request_method, $1 to $9, $cluster_name, $route_name, ${property:a.b.c}, $$, a map or a named group";

/// The most bytes of a text.
const LONGEST: usize = 65_536;

/// A value that differs from request to request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Variable {
    /// The client's IP address.
    RemoteAddr,
    /// The requested host in lower case, without the port.
    Host,
    /// The path without the query.
    Uri,
    /// The path with the query.
    RequestUri,
    /// The query.
    Args,
    /// A parameter of the query, as it was sent (not decoded).
    Arg(String),
    /// A request header; `_` in the variable's name is `-` in the header's.
    Header(String),
    /// A cookie.
    Cookie(String),
    /// The request method.
    Method,
    /// A group of the route's regex, 1 to 9.
    Group(usize),
    /// The name of the host's cluster (Envoy).
    ClusterName,
    /// The name of the host's route (Envoy).
    RouteName,
    /// Any property of the host.
    Property(Vec<String>),
    /// What the configuration gives a name: a group of the route's regex, or a map.
    Named(String),
}

/// Who knows the values of variables: a request.
pub trait Values {
    /// Appends the value of a variable to `out`; nothing if there is none.
    fn append(&self, variable: &Variable, out: &mut Vec<u8>);
}

impl Variable {
    /// The variable of that name that every configuration has.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let is_word = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        Some(match name {
            "remote_addr" => Self::RemoteAddr,
            "host" => Self::Host,
            "uri" => Self::Uri,
            "request_uri" => Self::RequestUri,
            "args" => Self::Args,
            "request_method" => Self::Method,
            "cluster_name" => Self::ClusterName,
            "route_name" => Self::RouteName,
            _ => {
                if let Some(path) = name.strip_prefix("property:") {
                    let steps: Vec<String> = path.split('.').map(str::to_owned).collect();
                    let well_formed = steps.iter().all(|step| !step.is_empty() && !step.contains('\0'));
                    return well_formed.then_some(Self::Property(steps));
                }
                if let Ok(group) = name.parse::<usize>() {
                    return (name.len() == 1 && group > 0).then_some(Self::Group(group));
                }
                let (kind, rest) = name.split_once('_').filter(|(_, rest)| is_word(rest))?;
                match kind {
                    "arg" => Self::Arg(rest.to_owned()),
                    "http" => Self::Header(rest.replace('_', "-").to_ascii_lowercase()),
                    "cookie" => Self::Cookie(rest.to_owned()),
                    _ => return None,
                }
            }
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    Variable(Variable),
}

/// A text with variables; by default the empty text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Template {
    text: String,
    parts: Vec<Part>,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    ///
    /// A sentence that names the variable at fault.
    pub fn parse(text: &str) -> Result<Self, String> {
        Self::parse_with(text, &|_| false)
    }

    /// The same where there are variables besides those that every configuration has.
    pub(crate) fn parse_with(text: &str, is_known: &dyn Fn(&str) -> bool) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            literal.push_str(before);
            if let Some(tail) = after.strip_prefix('$') {
                literal.push('$');
                rest = tail;
                continue;
            }
            let (name, tail) = match after.strip_prefix('{') {
                Some(inner) => inner.split_once('}').ok_or_else(|| format!("expected a }} after ${{ in \"{text}\""))?,
                // One digit is a group: "$10" is group 1 and a zero, as in nginx.
                None if after.starts_with(|c: char| c.is_ascii_digit()) => after.split_at(1),
                None => after
                    .split_at(after.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(after.len())),
            };
            let named = || is_known(name).then(|| Variable::Named(name.to_owned()));
            let variable = Variable::parse(name).or_else(named).ok_or_else(|| {
                let name: String = name.chars().take(80).collect();
                format!("expected a variable out of {KNOWN}, found \"${name}\"")
            })?;
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
            }
            parts.push(Part::Variable(variable));
            rest = tail;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Ok(Self { text: text.to_owned(), parts })
    }

    /// The text itself, when it has no variables.
    #[must_use]
    pub fn as_literal(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// The highest group of a regex that it refers to; 0 if none.
    #[must_use]
    pub fn highest_group(&self) -> usize {
        let group = |part: &Part| match part {
            Part::Variable(Variable::Group(group)) => *group,
            _ => 0,
        };
        self.parts.iter().map(group).max().unwrap_or(0)
    }

    /// Whether groups of a regex may be needed for it.
    pub(crate) fn wants_groups(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Variable(Variable::Group(_) | Variable::Named(_))))
    }

    /// How many variables it comes to, where `of` says that of those with names, if it knows it.
    pub(crate) fn size(&self, of: &dyn Fn(&str) -> Option<usize>) -> Option<usize> {
        self.parts.iter().try_fold(1, |size: usize, part| match part {
            Part::Variable(Variable::Named(name)) => Some(size.saturating_add(of(name)?)),
            Part::Variable(_) => Some(size.saturating_add(1)),
            Part::Literal(_) => Some(size),
        })
    }

    /// Appends the text to `out`, with the values that `append` appends for the variables. `out` has 65,536 bytes at most then; what
    /// is beyond is left out: how long headers are is the client's to choose.
    pub fn render(&self, out: &mut Vec<u8>, mut append: impl FnMut(&Variable, &mut Vec<u8>)) {
        for part in &self.parts {
            if out.len() >= LONGEST {
                break;
            }
            match part {
                Part::Literal(text) => out.extend_from_slice(text.as_bytes()),
                Part::Variable(variable) => append(variable, out),
            }
        }
        out.truncate(LONGEST);
    }
}

impl TryFrom<String> for Template {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        // What is stored was read before, with the names that there were.
        Self::parse_with(&text, &|_| true)
    }
}

impl From<Template> for String {
    fn from(template: Template) -> Self {
        template.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::test;

    fn render(text: &str) -> String {
        let mut out = Vec::new();
        Template::parse(text).unwrap().render(&mut out, |variable, out| {
            out.extend_from_slice(format!("<{variable:?}>").as_bytes());
        });
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn variables_are_found_in_text() {
        assert_eq!(render("a$host-b"), "a<Host>-b");
        assert_eq!(render("${host}name"), "<Host>name");
        assert_eq!(render("$10"), "<Group(1)>0");
        assert_eq!(render("$http_X_Forwarded_For"), "<Header(\"x-forwarded-for\")>");
        assert_eq!(render("$$5 $arg_a_b"), "$5 <Arg(\"a_b\")>");
        assert_eq!(render("${property:xds.cluster_name}"), "<Property([\"xds\", \"cluster_name\"])>");
        assert_eq!(render(""), "");
        assert_eq!(render("é$uri é"), "é<Uri> é");
    }

    #[test]
    fn a_text_without_variables_is_literal() {
        assert_eq!(Template::parse("a$$b").unwrap().as_literal(), Some("a$b"));
        assert_eq!(Template::parse("").unwrap().as_literal(), Some(""));
        assert_eq!(Template::parse("$1").unwrap().as_literal(), None);
        assert_eq!(Template::parse("$1$7x$3").unwrap().highest_group(), 7);
    }

    #[test]
    fn what_is_no_variable_is_named() {
        for text in [
            "$",
            "a$",
            "$0",
            "$nope",
            "${host",
            "${}",
            "$http_",
            "${http_x-y}",
            "${property:}",
            "${property:a..b}",
            "$é",
        ] {
            assert!(Template::parse(text).is_err(), "{text}");
        }
        assert!(Template::parse("x $remote_adr").unwrap_err().contains("\"$remote_adr\""));
    }
}
