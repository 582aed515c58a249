//! `durpina nginx-config`: one of the nginx configurations in `nginx-wasm/`, for a given filter JSON.
//!
//! The files are the templates: what is written for the filter JSON in such a file is that very file. What depends on the
//! filter JSON is found in the template by how its lines begin, and replaced.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use durpina::config::Config;
use durpina::host::Capabilities;
use durpina::Registry;
use serde_json::Value;

use crate::arguments::NginxConf;
use crate::nginx_text::{compact, escape, pieces, LONGEST};
use crate::text;

const HELPER: &str = include_str!("../../../nginx-wasm/helper.conf");

/// How the filter JSON begins and ends in the templates.
const FILTER: (&str, &str) = ("proxy_wasm durpina '{\n", "}';\n");

impl NginxConf {
    /// The name that the command line has for it.
    fn name(self) -> &'static str {
        match self {
            Self::AnyAddress => "any-address",
            Self::Keepalive => "keepalive",
            Self::StickyRoute => "sticky-route",
            Self::Streaming => "streaming",
        }
    }

    fn template(self) -> &'static str {
        match self {
            Self::AnyAddress => include_str!("../../../nginx-wasm/any-address.conf"),
            Self::Keepalive => include_str!("../../../nginx-wasm/keepalive.conf"),
            Self::StickyRoute => include_str!("../../../nginx-wasm/sticky-route.conf"),
            Self::Streaming => include_str!("../../../nginx-wasm/streaming.conf"),
        }
    }
}

/// The configuration, or what is wrong with the filter JSON, a line for each error.
pub(crate) fn write(json: &[u8], conf: NginxConf) -> Result<String, String> {
    let nginx = Capabilities {
        resolves_names: true,
        survives_refusal: false,
        calls_from_replies: false,
        has_clusters: false,
        ..Capabilities::default()
    };
    let config =
        Config::parse(json, nginx, &Registry::default()).map_err(|problems| text::lines(&problems.to_string()))?;
    // Whatever was parsed is UTF-8.
    let json = String::from_utf8_lossy(json);
    let servers = Servers::of(&config);
    let mut environment = String::new();
    let mut filter = conf.template().to_owned();
    if let NginxConf::Streaming = conf {
        filter = stream(&filter, &json, &mut environment);
    } else {
        filter = replace_between(&filter, FILTER, &directive(&json, "DURPINA_FILTER", "        ", &mut environment));
    }
    filter = match conf {
        NginxConf::Keepalive => {
            let filter = replace_lines(&filter, "    upstream durpina_", &servers.blocks());
            replace_lines(&filter, "        '127.0.0.1:", &servers.map())
        }
        NginxConf::StickyRoute => replace_lines(&filter, "        server 127.0.0.1:", &servers.routes()),
        NginxConf::AnyAddress | NginxConf::Streaming => filter,
    };
    if let Some(resolver) = resolver(&json).filter(|_| !servers.names.is_empty()) {
        filter = filter.replace("    # resolver 127.0.0.53;\n", &format!("    resolver {resolver};\n"));
    }
    let helper = indent(HELPER, "    ");
    filter = replace_lines(&filter, "    include /etc/nginx/helper.conf;", &helper);
    if !environment.is_empty() {
        filter = filter.replacen("\nevents {", &format!("\n{environment}\nevents {{"), 1);
    }
    let head = format!(
        "# Written by `durpina nginx-config --conf {}`: when the filter JSON changes, write it anew.\n#\n",
        conf.name()
    );
    Ok(head + &filter)
}

/// The name servers of a filter JSON, as nginx's directive takes them.
fn resolver(json: &str) -> Option<String> {
    let all: Value = serde_json::from_str(json).ok()?;
    match all.get("resolver")? {
        Value::String(one) => Some(one.clone()),
        Value::Array(several) => Some(several.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")),
        _ => None,
    }
}

/// The template for streamed uploads has the filter JSON in each place where durpina is asked. The management API needs a location
/// of its own, where nobody asks by a subrequest.
fn stream(template: &str, json: &str, environment: &mut String) -> String {
    const INDENTATION: &str = "            ";
    let Ok(Value::Object(mut all)) = serde_json::from_str(json) else { return template.to_owned() };
    let Some(admin) = all.remove("admin") else {
        return replace_between(template, FILTER, &directive(json, "DURPINA_FILTER", INDENTATION, environment));
    };
    let rest = Value::Object(all).to_string();
    let filter = replace_between(template, FILTER, &directive(&rest, "DURPINA_FILTER", INDENTATION, environment));
    let Some(prefix) = admin.get("prefix").and_then(Value::as_str) else { return filter };
    let prefix = escape(prefix.trim_end_matches('/'));
    // With the upstreams too: a filter learns of those of others only at a tick of its own.
    let admin = directive(json, "DURPINA_ADMIN", INDENTATION, environment);
    let location = format!(
        "        # The management API. durpina answers; the server of the last line is never asked.
        location ^~ '{prefix}/' {{
            proxy_wasm_request_headers_in_access on;
            {admin}            client_body_buffer_size 128k;
            proxy_request_buffering on;
            proxy_pass http://127.0.0.1:9;
        }}

        location / {{
"
    );
    filter.replacen("        location / {\n", &location, 1)
}

/// The directive with this filter JSON: as it was written if it fits, else without white space, else by way of the environment,
/// whose directives are put into `environment`.
fn directive(json: &str, name: &str, indentation: &str, environment: &mut String) -> String {
    let lines: Vec<&str> = json.trim().lines().map(str::trim_end).collect();
    let as_written = escape(&lines.join(&format!("\n{indentation}")));
    if as_written.len() <= LONGEST {
        return format!("proxy_wasm durpina '{as_written}';\n");
    }
    let compact = compact(json);
    let escaped = escape(&compact);
    if escaped.len() <= LONGEST {
        return format!("proxy_wasm durpina '{escaped}';\n");
    }
    if environment.is_empty() {
        environment.push_str("# The filter JSON is longer than a parameter may be: its pieces are variables of the workers' environment.\n");
    }
    // Room for the name, a number and `=`.
    for (at, piece) in pieces(&compact, LONGEST - name.len() - 8).iter().enumerate() {
        // Writing to a text cannot fail.
        let _ = writeln!(environment, "env '{name}_{}={piece}';", at + 1);
    }
    format!("proxy_wasm durpina 'env {name}';\n")
}

/// The servers of a configuration, each once, in its order.
struct Servers {
    /// What durpina calls them, which is how `$durpina_peer` names them.
    addresses: Vec<SocketAddr>,
    /// Names whose addresses only a name server knows.
    names: Vec<String>,
}

impl Servers {
    fn of(config: &Config) -> Self {
        let (mut addresses, mut names, mut seen) = (Vec::new(), Vec::new(), BTreeSet::new());
        for server in config.upstreams.iter().flat_map(|(_, upstream)| &upstream.servers) {
            let address = match server.name.strip_prefix("localhost:") {
                Some(port) => port.parse().ok().map(|port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)),
                None => server.name.parse().ok(),
            };
            match address {
                Some(address) if seen.insert(address.to_string()) => addresses.push(address),
                None if seen.insert(server.name.clone()) => names.push(server.name.clone()),
                _ => {}
            }
        }
        Self { addresses, names }
    }

    fn unlisted(&self, indentation: &str) -> String {
        if self.names.is_empty() {
            return String::new();
        }
        format!(
            "{indentation}# Not listed, because only a name server knows their addresses: {}.\n",
            self.names.join(", ")
        )
    }

    fn blocks(&self) -> String {
        let block = |(at, address): (usize, &SocketAddr)| {
            format!("    upstream durpina_{} {{ server {address} max_fails=0; keepalive 32; }}\n", at + 1)
        };
        self.unlisted("    ") + &self.addresses.iter().enumerate().map(block).collect::<String>()
    }

    fn map(&self) -> String {
        let line = |(at, address): (usize, &SocketAddr)| format!("        '{address}' durpina_{};\n", at + 1);
        self.addresses.iter().enumerate().map(line).collect()
    }

    fn routes(&self) -> String {
        if self.addresses.is_empty() {
            // An upstream has to have one.
            return self.unlisted("        ") + "        server 127.0.0.1:9 down;\n";
        }
        let line = |address: &SocketAddr| format!("        server {address} route={address} max_fails=0;\n");
        self.unlisted("        ") + &self.addresses.iter().map(line).collect::<String>()
    }
}

/// The lines that begin like this, which stand together, become `lines`.
fn replace_lines(text: &str, beginning: &str, lines: &str) -> String {
    let mut replaced = String::new();
    let mut done = false;
    for line in text.split_inclusive('\n') {
        if !line.starts_with(beginning) {
            replaced.push_str(line);
        } else if !done {
            done = true;
            replaced.push_str(lines);
        }
    }
    replaced
}

/// Every piece that begins and ends like this becomes `piece`.
fn replace_between(text: &str, (beginning, end): (&str, &str), piece: &str) -> String {
    let mut replaced = String::new();
    let mut rest = text;
    while let Some((before, after)) =
        rest.split_once(beginning).and_then(|(before, from)| Some((before, from.split_once(end)?.1)))
    {
        replaced.push_str(before);
        replaced.push_str(piece);
        rest = after;
    }
    replaced + rest
}

fn indent(text: &str, by: &str) -> String {
    text.lines().map(|line| if line.is_empty() { "\n".to_owned() } else { format!("{by}{line}\n") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = r#"{
  "upstreams": {
    "web": {
      "servers": ["127.0.0.1:8081 weight=5", "127.0.0.1:8082", "127.0.0.1:8083 backup"],
      "monitors": [{"name": "tcp", "interval": "1s", "schedule": "all"}]
    }
  },
  "upstream": "web",
  "nginx": {"helper": "unix:/run/durpina/helper.sock"}
}
"#;
    const ALL: [NginxConf; 4] =
        [NginxConf::AnyAddress, NginxConf::Keepalive, NginxConf::StickyRoute, NginxConf::Streaming];

    fn written(json: &str, conf: NginxConf) -> String {
        write(json.as_bytes(), conf).unwrap_or_else(|problems| panic!("{problems}"))
    }

    #[test]
    fn the_files_are_what_is_written_for_their_filter_json() {
        let helper = indent(HELPER, "    ");
        for conf in ALL {
            let text = written(EXAMPLE, conf);
            let body = text.split_once("#\n").map(|(_, body)| body).unwrap_or_default();
            assert!(text.contains(&helper), "{conf:?}: the helper is inside, so that it is one file");
            assert_eq!(body.replacen(&helper, "    include /etc/nginx/helper.conf;\n", 1), conf.template(), "{conf:?}");
        }
    }

    #[test]
    fn a_server_is_listed_once_and_as_durpina_writes_it() {
        let json = r#"{"upstreams": {"a": {"servers": ["localhost:80", "[0::1]:81 weight=2", "host1:82"]},
            "b": {"servers": ["127.0.0.1", "0.0.0.0", "HOST1:82"]}}, "resolver": ["127.0.0.53"]}"#;
        let text = written(json, NginxConf::Keepalive);
        assert!(
            text.contains("        '127.0.0.1:80' durpina_1;\n        '[::1]:81' durpina_2;\n        default "),
            "{text}"
        );
        assert!(text.contains("    upstream durpina_2 { server [::1]:81 max_fails=0; keepalive 32; }\n\n"), "{text}");
        assert!(text.contains("knows their addresses: host1:82.\n"));
        assert_eq!(text.matches("\n    resolver 127.0.0.53;\n").count(), 2, "for requests and for checks: {text}");
        assert!(!text.contains("# resolver"), "{text}");
        let text = written(json, NginxConf::StickyRoute);
        assert!(
            text.contains("        server [::1]:81 route=[::1]:81 max_fails=0;\n        keepalive 32;\n"),
            "{text}"
        );
    }

    #[test]
    fn a_filter_json_is_quoted() {
        let json = r#"{"upstreams": {"it's": {"servers": ["10.0.0.1"]}}, "routes": [{"regex": "^/(\\d+)$", "upstream": "it's"}]}"#;
        for conf in ALL {
            let text = written(json, conf);
            assert!(text.contains(r#""regex""#) && text.contains(r"^/(\\\\d+)$"), "{conf:?}: {text}");
            assert!(text.contains(r"it\'s") && !text.contains("\"it's"), "{conf:?}");
        }
    }

    #[test]
    fn a_long_filter_json_goes_through_the_environment() {
        let servers: Vec<String> = (0..400).map(|n| format!("10.0.{}.{}:8080 weight=3", n / 200, n % 200)).collect();
        let json = serde_json::json!({ "upstreams": { "web": { "servers": servers } }, "upstream": "web" }).to_string();
        let text = written(&json, NginxConf::AnyAddress);
        assert!(text.contains("\n        proxy_wasm durpina 'env DURPINA_FILTER';\n"));
        let parts: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("env '")?.strip_suffix("';")).collect();
        assert!(parts.len() > 2 && parts.iter().all(|part| part.len() <= LONGEST));
        let whole: String = parts
            .iter()
            .enumerate()
            .map(|(at, part)| part.strip_prefix(&format!("DURPINA_FILTER_{}=", at + 1)).unwrap_or_default())
            .collect();
        assert_eq!(whole, json);
    }

    #[test]
    fn streamed_uploads_have_the_api_in_a_location_of_its_own() {
        let json =
            r#"{"upstreams": {"web": {"servers": ["10.0.0.1"]}}, "upstream": "web", "admin": {"prefix": "/durpina"}}"#;
        let text = written(json, NginxConf::Streaming);
        let (before, after) = text.split_once("        location ^~ '/durpina/' {\n").unwrap_or_default();
        assert!(!before.contains("admin") && after.matches("\"admin\"").count() == 1, "{text}");
    }
}
