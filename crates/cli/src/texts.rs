//! What is said of the commands: descriptions, examples, exit codes.

pub(crate) const DESCRIPTION: &str = "\
Manages the upstreams of a running durpina through its management API, and validates a filter JSON without a proxy. All \
commands but check, envoy, nginx-config, completions, man, help and version call the API.

Options may stand anywhere. Tables are aligned with spaces, one row a line, for awk and sort as well as for people; --json \
prints what the API said. Results go to the standard output, what went wrong to the standard error.";

/// What the manual page says beside the help.
pub(crate) const NOTES: &str = "\
The API answers only clients on its own machine unless admin.allow says otherwise, and this command speaks no TLS. From \
another machine a tunnel does both: it encrypts, and it arrives at the proxy from loopback. Variables for proxies, such as \
http_proxy, are not obeyed, and redirects are not followed: the token goes to the API and nowhere else.";

// The examples of each command, a line each.

pub(crate) const EXAMPLES: &str = "  \
  export DURPINA_URL=http://127.0.0.1:8000/durpina DURPINA_TOKEN=change-me
  durpina info
  durpina state web 10.0.0.1:8080 drain
  durpina check filter.json";

pub(crate) const PEERS: &str = "  \
  durpina peers web
  durpina peers web --selector down
  durpina peers web --json | jq -r '.[].name'";

pub(crate) const INFO: &str = "  \
  durpina info
  durpina info web";

pub(crate) const ADD: &str = "  \
  durpina add web 10.0.0.4:8080
  durpina add web '10.0.0.4:8080 weight=5 max_fails=3 fail_timeout=10s'
  durpina add web '[2001:db8::1]:8080 down'";

pub(crate) const REMOVE: &str = "  \
  durpina remove web 10.0.0.4:8080
  durpina remove web '[2001:db8::1]:8080'";

pub(crate) const WEIGHT: &str = "  \
  durpina weight web 10.0.0.4:8080 10";

pub(crate) const STATE: &str = "  \
  durpina state web 10.0.0.4:8080 drain
  durpina state web 10.0.0.4:8080 up";

pub(crate) const CHECK: &str = "  \
  durpina check filter.json
  jq .durpina all.json | durpina check -
  durpina check --monitor ready --balancer in-order filter.json
  durpina check envoy.yaml
  durpina check envoy.yaml lds.yaml cds.yaml";

pub(crate) const NGINX_CONFIG: &str = "  \
  durpina nginx-config filter.json > nginx.conf
  durpina nginx-config filter.json --conf any-address";

pub(crate) const ENVOY: &str = "  \
  durpina envoy envoy.yaml filter.json --route backend/api/
  durpina envoy envoy.yaml filter.json --route backend/api/ --write
  durpina envoy envoy.yaml lds.yaml cds.yaml filter.json --route backend --manager ingress_http
  durpina envoy envoy.yaml --remove --write
  durpina envoy --for istio filter.json --route www.example.com/ > istio.yaml";

pub(crate) const COMPLETIONS: &str = "  \
  durpina completions bash > /etc/bash_completion.d/durpina
  durpina completions zsh > /usr/local/share/zsh/site-functions/_durpina
  durpina completions fish > ~/.config/fish/completions/durpina.fish";

pub(crate) const MAN: &str = "  \
  durpina man > /usr/local/share/man/man1/durpina.1
  durpina man | man -l -";

pub(crate) const HELP: &str = "  \
  durpina help
  durpina help weight";

pub(crate) const TUNNEL: &str = "  \
  ssh -N -L 8000:127.0.0.1:8000 proxy.example &
  durpina info";

pub(crate) const VERSION: &str = "  \
  durpina version";

pub(crate) const EXIT_CODES: [(&str, &str); 5] = [
    ("0", "done"),
    ("1", "the configuration is wrong (check, envoy, nginx-config)"),
    ("2", "called wrongly, or a file cannot be read or the output not be written"),
    ("3", "the management API refused: no such peer, a wrong token, an invalid value (4xx)"),
    ("4", "the management API cannot be reached, failed (5xx), or what answered is not the API"),
];

pub(crate) const ENVIRONMENT: [(&str, &str); 2] = [
    ("DURPINA_URL", "The address of the management API, unless --url names it. An empty variable counts as absent."),
    ("DURPINA_TOKEN", "The bearer token, unless --token names it. An empty variable counts as absent."),
];

/// The end of every help text.
pub(crate) fn exit_codes() -> String {
    let lines = EXIT_CODES.map(|(code, meaning)| format!("\n  {code}  {meaning}"));
    format!("Exit codes:{}", lines.concat())
}
