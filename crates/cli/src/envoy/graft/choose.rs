//! What is meant: connection managers and routes by their names, and how the clusters spoke to which these led.

use super::Graft;
use crate::envoy::part::Part;
use crate::envoy::parts::{self, Connection, NAME};
use crate::envoy::places::{self, Manager, Place, Route};
use crate::envoy::prune::Pointed;
use crate::envoy::wiring::Peers;

impl Graft<'_> {
    /// The connection managers that were asked for.
    pub(super) fn managers(&mut self) -> Vec<Manager> {
        let all = places::managers(&self.files);
        if all.is_empty() {
            self.problems.push("there is no listener with an HTTP connection manager in these files".to_owned());
        }
        let wishes = self.wishes;
        for name in &wishes.managers {
            if !all.iter().any(|manager| manager.is_called(name)) {
                let known: Vec<String> =
                    all.iter().map(|manager| format!("{}/{}", manager.listener, manager.stat_prefix)).collect();
                let known = known.join(", ");
                self.problems.push(format!("there is no connection manager {name:?}; there are {known}"));
            }
        }
        let is_asked = |manager: &Manager| {
            wishes.managers.is_empty() || wishes.managers.iter().any(|name| manager.is_called(name))
        };
        let (asked, others): (Vec<_>, Vec<_>) = all.into_iter().partition(is_asked);
        for other in &others {
            // Its requests would come to the clusters without the filter.
            if let Some(manager) = asked.iter().find(|manager| manager.routes.is_ok() && manager.routes == other.routes)
            {
                let place = manager.place;
                let why = format!(
                    "shares its routes with the connection manager {}/{}, which was not named",
                    other.listener, other.stat_prefix
                );
                self.problem(place, &why);
            }
        }
        asked
    }

    /// The routes that were asked for, and those that were there before.
    pub(super) fn routes(&mut self, managers: &[Manager], kept: &[Pointed]) -> Vec<Route> {
        let mut all: Vec<Route> = Vec::new();
        for manager in managers {
            match &manager.routes {
                Ok(config) => {
                    for route in places::routes_of(&self.files, *config) {
                        if !all.iter().any(|other| other.place == route.place) {
                            all.push(route);
                        }
                    }
                }
                Err(why) => self.note(manager.place, why),
            }
        }
        let mut found: Vec<Route> = Vec::new();
        for wish in &self.wishes.routes {
            let matching: Vec<&Route> = all.iter().filter(|route| self.is_meant(route, wish)).collect();
            if matching.is_empty() {
                let known = self.known(&all);
                let problem = format!("there is no route {wish:?}; there are {}", known.join(", "));
                self.problems.push(problem);
            }
            // Of a whole host, those that can be.
            let whole = matching.len() > 1;
            for route in matching {
                let leads =
                    self.doc(route.place).is_some_and(|doc| doc.at(route.place.id, &["route", "cluster"]).is_some());
                if (leads || !whole) && !found.iter().any(|other| other.place == route.place) {
                    found.push(route.clone());
                }
            }
        }
        for before in kept {
            let doc = self.files.get(before.file).map(|file| &file.doc);
            let id = doc.and_then(|doc| doc.find(&before.steps));
            let route = all.iter().find(|route| route.place.file == before.file && Some(route.place.id) == id);
            match route {
                Some(route) if found.iter().any(|other| other.place == route.place) => {}
                Some(route) => found.push(route.clone()),
                None => {
                    let name = self.files.get(before.file).map(|file| file.name.clone()).unwrap_or_default();
                    let was = &before.was;
                    self.problems.push(format!(
                        "{name}: a route to {NAME} that led to {was} before is in no connection manager that was named"
                    ));
                }
            }
        }
        if found.is_empty() && self.problems.is_empty() {
            let known = self.known(&all);
            let known = if known.is_empty() { "none that leads to one cluster".to_owned() } else { known.join(", ") };
            self.notes
                .push(format!("no route leads to durpina yet: --route HOST/PREFIX says which; there are {known}"));
        }
        found
    }

    /// What the routes are called, each name once.
    fn known(&self, all: &[Route]) -> Vec<String> {
        let mut known: Vec<String> = Vec::new();
        for name in all.iter().filter_map(|route| self.called(route)) {
            if !known.contains(&name) {
                known.push(name);
            }
        }
        known
    }

    /// `HOST/PREFIX`, for routes that lead to a cluster.
    fn called(&self, route: &Route) -> Option<String> {
        let doc = self.doc(route.place)?;
        doc.at(route.place.id, &["route", "cluster"])?;
        let (_, path) = places::matched(doc, route.place.id)?;
        Some(format!("{}{path}", route.host_name))
    }

    fn is_meant(&self, route: &Route, wish: &str) -> bool {
        let path = match wish.strip_prefix(route.host_name.as_str()).or_else(|| wish.strip_prefix('*')) {
            Some("") => return true,
            Some(path) => path,
            None => return false,
        };
        let matched = self.doc(route.place).and_then(|doc| places::matched(doc, route.place.id));
        matched.is_some_and(|(_, text)| text == path)
    }

    /// How the peers are spoken to: as was asked for, or as the clusters were to which the routes led.
    pub(super) fn connection(&mut self, routes: &[Route]) -> Connection {
        let mut found: Option<(String, Connection)> = None;
        for route in routes {
            let Some(name) = places::text(&self.files, route.place, &["route", "cluster"]).map(str::to_owned) else {
                continue;
            };
            if self.wishes.peers.is_some() {
                continue;
            }
            let Some(place) = places::cluster(&self.files, &name) else {
                let why = format!(
                    "leads to the cluster {name:?}, which is not in these files: give the file with it, or --peers, so that \
                     this command knows how the peers are spoken to"
                );
                self.problem(route.place, &why);
                continue;
            };
            let connection = self.connection_of(place);
            match &found {
                Some((other, first)) if *first != connection => {
                    let why = format!(
                        "({name}) speaks to its servers in another way than the cluster {other:?}; durpina has one way for all \
                         of its peers: point routes of one kind to it, or say --peers"
                    );
                    self.problem(place, &why);
                }
                Some(_) => {}
                None => found = Some((name, connection)),
            }
        }
        match (found, self.wishes.peers) {
            (_, Some(peers)) => parts::connection(peers),
            (Some((_, connection)), None) => connection,
            (None, None) => parts::connection(Peers::Http1),
        }
    }

    fn connection_of(&mut self, place: Place) -> Connection {
        /// What of a cluster says how its servers are spoken to.
        const CARRIED: [&str; 8] = [
            "connect_timeout",
            "transport_socket",
            "typed_extension_protocol_options",
            "http_protocol_options",
            "http2_protocol_options",
            "common_http_protocol_options",
            "upstream_bind_config",
            "upstream_connection_options",
        ];
        let mut connection = parts::connection(Peers::Http1);
        let Some(doc) = self.doc(place) else { return connection };
        let own = |key: &str| doc.get(place.id, key).map(|id| Part::of(doc, id));
        let old_http2 = own("http2_protocol_options").is_some();
        for key in CARRIED {
            let Some(part) = own(key) else { continue };
            if old_http2 && key == "http2_protocol_options" {
                connection.retain(|(name, _)| name != "typed_extension_protocol_options");
            }
            match connection.iter_mut().find(|(name, _)| name == key) {
                Some((_, value)) => *value = part,
                None => connection.push((key.to_owned(), part)),
            }
        }
        for (key, why) in [
            ("transport_socket_matches", "chooses how it speaks to a server by the server (transport_socket_matches): durpina speaks to all in one way"),
        ] {
            if self.doc(place).and_then(|doc| doc.get(place.id, key)).is_some() {
                self.problem(place, why);
            }
        }
        for (key, instead) in [("health_checks", "monitors"), ("outlier_detection", "max_fails and fail_timeout")] {
            if self.doc(place).and_then(|doc| doc.get(place.id, key)).is_some() {
                self.note(
                    place,
                    &format!("has {key}, which do not come along: durpina has {instead} in the filter JSON"),
                );
            }
        }
        connection
    }
}
