//! Whom `laterna call NAME|ID` means: a pure core.

use super::wire::{Complaint, Kind, Peer, Server};

/// The index of the server, and the peer there, that `wanted` means, by id or by name; of those with a name, the newest of a server.
///
/// # Errors
/// Where none is meant, or several.
pub fn resolve<'a>(servers: &'a [Server], wanted: &str, at: Option<&str>) -> Result<(usize, &'a Peer), Complaint> {
    if wanted.trim().is_empty() {
        let message = "nobody is called by an empty name; give an id or a name, as `laterna peers` lists them";
        return Err(Complaint::new(Kind::BadRequest, message));
    }
    let only = at.map(|label| named(servers, label)).transpose()?;
    let all = servers.iter().enumerate().filter(|(index, _)| only.is_none_or(|only| only == *index));
    let servers: Vec<(usize, &Server)> = all.collect();
    let id = wanted.parse::<u64>().ok();
    let by_id = |server: &'a Server| server.peers.iter().find(|peer| id == Some(peer.id));
    let by_name = |server: &'a Server| server.peers.iter().filter(|peer| peer.name == wanted).max_by_key(|p| p.id);
    let mut found: Vec<_> =
        servers.iter().filter_map(|(index, server)| Some((*index, *server, by_id(server)?))).collect();
    if found.is_empty() {
        found = servers.iter().filter_map(|(index, server)| Some((*index, *server, by_name(server)?))).collect();
    }
    match found[..] {
        [(index, _, peer)] => Ok((index, peer)),
        [] => {
            let place = at.map(|label| format!(" at {label}")).unwrap_or_default();
            let message =
                format!("nobody called {wanted}, and no such id, is signed in{place}; `laterna peers` lists who is");
            Err(Complaint::new(Kind::Unknown, message))
        }
        _ => {
            let those: Vec<_> =
                found.iter().map(|(_, server, peer)| format!("{} at {}", peer.id, server.server)).collect();
            let message = format!("several fit {wanted}: {}; name one by its id and --server", those.join(", "));
            Err(Complaint::new(Kind::Ambiguous, message))
        }
    }
}

/// The index of the server with this label, or of the only one whose label has it as a part.
fn named(servers: &[Server], label: &str) -> Result<usize, Complaint> {
    if let Some(exact) = servers.iter().position(|server| server.server == label) {
        return Ok(exact);
    }
    let found: Vec<_> = (0..servers.len()).filter(|index| servers[*index].server.contains(label)).collect();
    let list = |indices: &[usize]| indices.iter().map(|i| servers[*i].server.as_str()).collect::<Vec<_>>().join(", ");
    match found[..] {
        [one] => Ok(one),
        [] => {
            let all: Vec<_> = (0..servers.len()).collect();
            let message = format!("the daemon is at no server {label}; it is at: {}", list(&all));
            Err(Complaint::new(Kind::Unknown, message))
        }
        _ => Err(Complaint::new(Kind::Ambiguous, format!("several servers fit {label}: {}", list(&found)))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::wire::Standing;
    use super::*;

    fn server(label: &str, peers: &[(u64, &str)]) -> Server {
        let peers = peers.iter().map(|(id, name)| Peer { id: *id, name: (*name).to_owned(), viewer: None }).collect();
        Server { server: label.to_owned(), standing: Standing::SignedIn, name: None, why: None, peers }
    }

    #[test]
    fn names_are_the_newest_of_a_server_and_never_a_guess_between_two() {
        let servers = [
            server("room", &[(2, "alice"), (5, "alice"), (3, "bob"), (6, "2")]),
            server("mdn+ws://h/", &[(2, "carol"), (3, "eve")]),
            server("mdn+ws://other/", &[(9, "bob")]),
        ];
        let call = |wanted: &str, at: Option<&str>| {
            let found = resolve(&servers, wanted, at);
            found
                .map(|(index, peer)| (servers[index].server.clone(), peer.id))
                .map_err(|error| (error.kind, error.message))
        };
        let at = |label: &str, id: u64| Ok((label.to_owned(), id));
        assert_eq!(call("alice", None), at("room", 5));
        assert_eq!(call("carol", None), at("mdn+ws://h/", 2));
        assert_eq!(call("9", None), at("mdn+ws://other/", 9));
        let (kind, words) = call("bob", None).unwrap_err();
        assert!(kind == Kind::Ambiguous && words.contains("3 at room, 9 at mdn+ws://other/"), "{words}");
        let (kind, words) = call("2", None).unwrap_err();
        assert!(kind == Kind::Ambiguous && words.contains("2 at room, 2 at mdn+ws://h/"), "{words}");
        assert_eq!(call("bob", Some("other")), at("mdn+ws://other/", 9));
        assert_eq!(call("2", Some("room")), at("room", 2), "an id goes before a name");
        assert_eq!(call("moon", None).unwrap_err().0, Kind::Unknown);
        assert_eq!(call("alice", Some("other")).unwrap_err().0, Kind::Unknown);
        assert_eq!(call("bob", Some("moon")).unwrap_err().0, Kind::Unknown);
        assert_eq!(call("bob", Some("mdn")).unwrap_err().0, Kind::Ambiguous);
        let twice = [server("mdn+ws://h/", &[(1, "bob")]), server("mdn+ws://h/ #2", &[(1, "bob")])];
        for (label, expected) in [("mdn+ws://h/", 0), ("mdn+ws://h/ #2", 1), ("#2", 1)] {
            assert_eq!(resolve(&twice, "bob", Some(label)).unwrap().0, expected, "{label}");
        }
        assert_eq!(resolve(&twice, "bob", Some("h/")).unwrap_err().kind, Kind::Ambiguous);
        assert_eq!(resolve(&[], "x", None).unwrap_err().kind, Kind::Unknown);
    }

    #[test]
    fn a_name_of_digits_is_found_where_no_id_is_so_and_no_name_is_nobodys() {
        let servers = [server("room", &[(2, "77"), (3, "")])];
        assert_eq!(resolve(&servers, "77", None).unwrap().1.id, 2);
        assert_eq!(resolve(&servers, "3", None).unwrap().1.id, 3);
        assert_eq!(resolve(&servers, "", None).unwrap_err().kind, Kind::BadRequest, "whoever has no name has an id");
    }
}
