//! Verdicts on ways: ports, firewalls, addresses, servers, and what browsers make of them. Pure.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::{Finding, Level};
use crate::config::{Listen, RunConfig, TlsConfig};
use crate::control::wire::Status;

/// What a port is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// The page, WHEP and the room.
    Page,
    /// Media by UDP.
    Media,
    /// Media by TCP, for viewers whose network lets no UDP through.
    MediaTcp,
}

/// Who has a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The user.
    pub uid: u32,
    /// Its name and number, where this user may see them.
    pub process: Option<(String, u32)>,
}

/// What is known of a port.
#[derive(Debug, Clone)]
pub struct PortFacts {
    /// What it is for.
    pub purpose: Purpose,
    /// Where.
    pub address: SocketAddr,
    /// Whether the daemon that answered has it.
    pub is_own: bool,
    /// What the system said to binding it, where it refused.
    pub refusal: Option<io::ErrorKind>,
    /// Who has it, where it is taken.
    pub holder: Option<Holder>,
}

/// The ports that a configuration asks for; a port of 0 is any, and not among them.
pub fn ports_of(config: &RunConfig) -> Vec<(Purpose, SocketAddr)> {
    let page = match &config.listen {
        Listen::Off => &[][..],
        Listen::At(addresses) => addresses,
    };
    let media = SocketAddr::new(std::net::Ipv6Addr::UNSPECIFIED.into(), config.udp_port);
    let page = page.iter().map(|address| (Purpose::Page, *address));
    page.chain([(Purpose::Media, media), (Purpose::MediaTcp, media)])
        .filter(|(_, address)| address.port() != 0)
        .collect()
}

/// The ports of a daemon that runs.
pub fn own_ports(status: &Status) -> Vec<(Purpose, u16)> {
    let page = status.http.iter().map(|address| (Purpose::Page, address.port()));
    page.chain([(Purpose::Media, status.udp), (Purpose::MediaTcp, status.udp)]).collect()
}

/// Judges the ports.
pub fn ports(facts: &[PortFacts]) -> Vec<Finding> {
    if facts.is_empty() {
        return vec![Finding::ok("ports", "any that are free")];
    }
    facts.iter().map(port).collect()
}

fn port(facts: &PortFacts) -> Finding {
    let address = facts.address;
    let (told, flag, bad) = match facts.purpose {
        Purpose::Page => (format!("{address} for the page"), "--listen", Level::Fail),
        Purpose::Media => (format!("UDP port {} for media", address.port()), "--udp-port", Level::Fail),
        Purpose::MediaTcp => (format!("TCP port {} for media", address.port()), "--udp-port", Level::Warn),
    };
    if facts.is_own {
        return Finding::ok("ports", format!("{told}: the running laterna has it"));
    }
    let Some(refusal) = facts.refusal else { return Finding::ok("ports", format!("{told}: free")) };
    let another = format!("choose another with {flag}");
    match (refusal, &facts.holder) {
        (io::ErrorKind::AddrInUse, Some(Holder { uid, process })) => {
            let (who, advice) = match process {
                Some((name, pid)) if name == "laterna" => (
                    format!("another laterna has it (process {pid})"),
                    format!("stop that one (kill {pid}), or {another}"),
                ),
                Some((name, pid)) => (format!("{name} has it (process {pid})"), format!("stop that, or {another}")),
                None => (
                    format!("a program of the user {uid} has it"),
                    format!("sudo laterna doctor names it (a service of laterna has a user of its own); or {another}"),
                ),
            };
            Finding::new("ports", bad, format!("{told}: {who}"), advice)
        }
        (io::ErrorKind::AddrInUse, None) => {
            Finding::new("ports", bad, format!("{told}: it is taken"), format!("stop what has it, or {another}"))
        }
        (io::ErrorKind::PermissionDenied, _) => {
            let advice = format!("{another}, from 1024 on");
            Finding::new("ports", bad, format!("{told}: only root may have it"), advice)
        }
        (io::ErrorKind::AddrNotAvailable, _) => {
            Finding::new("ports", bad, format!("{told}: this machine has no such address"), another)
        }
        (other, _) => Finding::new("ports", bad, format!("{told}: {other}"), another),
    }
}

/// Who holds a port by a table of the kernel's (proc(5), `/proc/net/tcp` and the like): users and the numbers of sockets; of TCP those that listen.
pub fn holders(table: &str, port: u16, is_tcp: bool) -> Vec<(u32, u64)> {
    let line = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let (_, local) = fields.get(1)?.rsplit_once(':')?;
        let is_listening = !is_tcp || *fields.get(3)? == "0A";
        let is_it = u16::from_str_radix(local, 16).ok()? == port && is_listening;
        is_it.then_some((fields.get(7)?.parse().ok()?, fields.get(9)?.parse().ok()?))
    };
    table.lines().skip(1).filter_map(line).collect()
}

/// What is known of firewalls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FirewallFacts {
    /// Whether ufw is switched on.
    pub ufw: bool,
    /// Whether firewalld runs.
    pub firewalld: bool,
    /// Whether nftables' own service has loaded rules.
    pub nftables: bool,
    /// Whether the rules drop what they don't allow; only root can see.
    pub drops: Option<bool>,
}

/// Whether a rule set of nftables drops what comes in unless a rule takes it (nft(8), `nft list ruleset`).
pub fn drops_input(rules: &str) -> bool {
    let hooks = rules.lines().map(str::trim).filter(|line| line.starts_with("type filter hook input"));
    hooks.into_iter().any(|line| line.contains("policy drop"))
}

/// Judges firewalls by what can be seen of them; what they let in only root can tell.
pub fn firewall(facts: &FirewallFacts, ports: &[(Purpose, SocketAddr)]) -> Finding {
    let is_open = |(_, address): &&(Purpose, SocketAddr)| !address.ip().is_loopback();
    let protocol = |purpose| if purpose == Purpose::Media { "udp" } else { "tcp" };
    let ports: BTreeSet<_> = ports
        .iter()
        .filter(is_open)
        .map(|(purpose, address)| format!("{}/{}", address.port(), protocol(*purpose)))
        .collect();
    let ports: Vec<_> = ports.into_iter().collect();
    let all = |before: &str, between: &str| format!("{before}{}", ports.join(between));
    let (who, advice) = if facts.ufw {
        ("ufw is active", all("sudo ufw allow ", " && sudo ufw allow "))
    } else if facts.firewalld {
        let add = all("sudo firewall-cmd --permanent --add-port=", " --add-port=");
        ("firewalld is active", format!("{add} && sudo firewall-cmd --reload"))
    } else if facts.drops == Some(true) || facts.nftables {
        ("rules of nftables are loaded", format!("let these in: {}", ports.join(", ")))
    } else if facts.drops == Some(false) {
        return Finding::ok("firewall", "the rules of this machine drop nothing");
    } else {
        return Finding::ok("firewall", "none was seen on this machine (only root sees all rules)");
    };
    let is_sure = facts.drops == Some(true);
    match (ports.is_empty(), facts.drops) {
        (true, _) => Finding::ok("firewall", format!("{who}; there is no fixed port to let in")),
        (_, Some(false)) => Finding::ok("firewall", format!("{who}, and drops nothing")),
        _ => {
            let what = if is_sure { "it drops what no rule lets in" } else { "what it lets in only root can see" };
            Finding::new("firewall", Level::Warn, format!("{who}: {what}"), advice)
        }
    }
}

/// What viewers would be told.
#[derive(Debug, Clone)]
pub struct AddressFacts {
    /// The port of media.
    pub port: u16,
    /// The addresses, loopback included.
    pub told: Vec<IpAddr>,
    /// Whether `--network` leaves some out.
    pub is_filtered: bool,
    /// Whether a NAT's address is configured, or a server that learns it or relays.
    pub is_beyond: bool,
}

/// Judges the addresses.
pub fn addresses(facts: &AddressFacts) -> Finding {
    let told: Vec<_> = facts.told.iter().filter(|ip| !ip.is_loopback()).collect();
    if told.is_empty() {
        let advice = if facts.is_filtered {
            "--network leaves no other: include an interface of this machine (ip address lists them)"
        } else {
            "connect this machine to a network; browsers on this machine alone can watch"
        };
        return Finding::new("addresses", Level::Warn, "viewers are told loopback alone", advice);
    }
    let count = |is_v6: bool| told.iter().filter(|ip| ip.is_ipv6() == is_v6).count();
    let list: Vec<_> = told.iter().map(ToString::to_string).collect();
    let found = format!("viewers are told {} ({} of IPv4, {} of IPv6)", list.join(", "), count(false), count(true));
    let is_public = told.iter().any(|ip| is_public(**ip));
    if is_public || facts.is_beyond {
        return Finding::ok("addresses", found);
    }
    let port = facts.port;
    let advice = format!(
        "for viewers elsewhere on the Internet: --public-ip, or --ice-server with a STUN or TURN server, and {port}/udp and {port}/tcp forwarded"
    );
    Finding::ok("addresses", format!("{found}, all of them private")).advise(advice)
}

/// Whether an address is reached from the whole Internet, as far as it shows (RFC 6890).
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            let is_shared = v4.octets()[0] == 100 && (64..128).contains(&v4.octets()[1]);
            !(v4.is_private() || v4.is_link_local() || v4.is_loopback() || v4.is_unspecified() || is_shared)
        }
        IpAddr::V6(v6) => v6.segments()[0] & 0xe000 == 0x2000,
    }
}

/// What a server said.
#[derive(Debug, Clone)]
pub struct ServerFacts {
    /// What it is for: `signaling` or `ice server`.
    pub check: &'static str,
    /// Its name, without secrets.
    pub label: String,
    /// How long it took to answer, or why it did not.
    pub answer: Result<Duration, String>,
}

/// Judges a server.
pub fn server(facts: &ServerFacts) -> Finding {
    let ServerFacts { check, label, answer } = facts;
    match answer {
        Ok(took) => Finding::ok(check, format!("{label} answers ({} ms)", took.as_millis())),
        Err(error) => {
            let finding = Finding::of_error(check, Level::Fail, error);
            let advice = finding.advice.unwrap_or_else(|| {
                "check that it runs, that its name and port are right, and that this machine's network lets it through".to_owned()
            });
            Finding::new(check, Level::Fail, format!("{label}: {}", finding.found), advice)
        }
    }
}

/// What browsers allow of what is configured.
pub fn browsers(config: &RunConfig) -> Vec<Finding> {
    let Listen::At(addresses) = &config.listen else {
        return vec![Finding::ok(
            "browsers",
            "there is no page here; what browsers allow is for the other servers' pages",
        )];
    };
    let is_local = addresses.iter().all(|address| address.ip().is_loopback());
    if is_local {
        return vec![Finding::ok("browsers", "the page is for browsers on this machine; they allow all there")];
    }
    let page = if config.tls == TlsConfig::Off {
        Finding::ok(
            "browsers",
            "the page comes by http: watching works in all browsers, but who is between can read the code, and pages of https sites can't ask this daemon (mixed content)",
        )
        .advise("--tls self-signed, or --tls-cert and --tls-key with a certificate of this machine's name")
    } else if config.tls == TlsConfig::SelfSigned {
        Finding::ok(
            "browsers",
            "the page comes by https with a certificate that signs itself: each browser warns of it once",
        )
        .advise("--tls-cert and --tls-key with a certificate of this machine's name, for no warning")
    } else {
        Finding::ok("browsers", "the page comes by https")
    };
    let others = Finding::ok(
        "browsers",
        "pages of other sites that ask a daemon in a local network: Chrome asks its user first (local network access), and only lets pages of https do so",
    )
    .advise("open the page from the daemon itself, which needs no such permission; viewers' .local names (mDNS) need no setting here");
    vec![page, others]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn facts(purpose: Purpose, refusal: Option<io::ErrorKind>, holder: Option<Holder>) -> PortFacts {
        PortFacts { purpose, address: "[::]:8888".parse().unwrap(), is_own: false, refusal, holder }
    }

    #[test]
    fn a_port_is_free_ours_or_somebody_elses() {
        let taken = Some(io::ErrorKind::AddrInUse);
        let named = |name: &str| Some(Holder { uid: 1000, process: Some((name.to_owned(), 42)) });
        let unseen = Some(Holder { uid: 999, process: None });
        let table = [
            (facts(Purpose::Page, None, None), Level::Ok, "free"),
            (facts(Purpose::Page, taken, named("nginx")), Level::Fail, "nginx has it (process 42)"),
            (facts(Purpose::Media, taken, named("laterna")), Level::Fail, "another laterna has it"),
            (facts(Purpose::MediaTcp, taken, unseen), Level::Warn, "a program of the user 999"),
            (facts(Purpose::Media, taken, None), Level::Fail, "it is taken"),
            (facts(Purpose::Page, Some(io::ErrorKind::PermissionDenied), None), Level::Fail, "only root"),
            (facts(Purpose::Page, Some(io::ErrorKind::AddrNotAvailable), None), Level::Fail, "no such address"),
            (PortFacts { is_own: true, ..facts(Purpose::Page, taken, named("laterna")) }, Level::Ok, "running laterna"),
        ];
        for (facts, level, part) in table {
            let finding = port(&facts);
            assert!(finding.level == level && finding.found.contains(part), "{finding:?}");
            assert_eq!(finding.advice.is_some(), level != Level::Ok, "{finding:?}");
        }
    }

    #[test]
    fn the_kernels_tables_name_who_listens() {
        let tcp = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:22B8 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 12345 1 0000000000000000 100 0 0 10 0
   1: 0100007F:22B8 0100007F:9C40 01 00000000:00000000 00:00000000 00000000  1001        0 12346 1 0000000000000000 20 4 30 10 -1
   2: 00000000000000000000000000000000:0016 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 777 1 0
";
        assert_eq!(holders(tcp, 8888, true), [(1000, 12345)]);
        assert_eq!(holders(tcp, 22, true), [(0, 777)]);
        assert_eq!(holders(tcp, 80, true), []);
        assert_eq!(holders(tcp, 8888, false).len(), 2, "UDP has no states");
        assert_eq!(holders("nonsense\nmore of it\n", 1, true), []);
    }

    #[test]
    fn a_firewall_is_told_with_the_command_that_opens_it() {
        let ports = [
            (Purpose::Page, "[::]:8888".parse().unwrap()),
            (Purpose::Media, "[::]:8889".parse().unwrap()),
            (Purpose::MediaTcp, "[::]:8889".parse().unwrap()),
        ];
        let none = FirewallFacts::default();
        assert_eq!(firewall(&none, &ports).level, Level::Ok);
        let ufw = firewall(&FirewallFacts { ufw: true, ..none }, &ports);
        let expected = "sudo ufw allow 8888/tcp && sudo ufw allow 8889/tcp && sudo ufw allow 8889/udp";
        assert!(ufw.level == Level::Warn && ufw.advice.as_deref() == Some(expected), "{ufw:?}");
        assert_eq!(firewall(&FirewallFacts { ufw: true, drops: Some(false), ..none }, &ports).level, Level::Ok);
        let loopback = [(Purpose::Page, "127.0.0.1:8888".parse().unwrap())];
        assert_eq!(firewall(&FirewallFacts { ufw: true, ..none }, &loopback).level, Level::Ok);
        let firewalld = firewall(&FirewallFacts { firewalld: true, ..none }, &ports).advice.unwrap();
        assert!(firewalld.contains("--add-port=8889/udp"), "{firewalld}");
        assert_eq!(firewall(&FirewallFacts { drops: Some(true), ..none }, &ports).level, Level::Warn);
    }

    #[test]
    fn rules_that_drop_are_those_of_the_input_hook() {
        let input =
            "table inet filter {\n\tchain input {\n\t\ttype filter hook input priority filter; policy drop;\n\t}\n}";
        assert!(drops_input(input));
        assert!(!drops_input(&input.replace("drop", "accept")));
        assert!(!drops_input(&input.replace("hook input", "hook forward")) && !drops_input(""));
    }

    #[test]
    fn addresses_are_enough_or_loopback_alone() {
        let facts = |told: &[&str], is_filtered, is_beyond| AddressFacts {
            port: 8889,
            told: told.iter().map(|ip| ip.parse().unwrap()).collect(),
            is_filtered,
            is_beyond,
        };
        let alone = addresses(&facts(&["127.0.0.1", "::1"], false, false));
        assert!(alone.level == Level::Warn && alone.advice.unwrap().contains("connect"), "{}", alone.found);
        assert!(addresses(&facts(&["127.0.0.1"], true, false)).advice.unwrap().contains("--network"));
        for private in ["192.168.1.2", "10.1.1.1", "100.64.0.1", "fd00::1", "169.254.1.1"] {
            let finding = addresses(&facts(&[private], false, false));
            assert!(finding.level == Level::Ok && finding.found.contains("private"), "{finding:?}");
            assert_eq!(addresses(&facts(&[private], false, true)).advice, None);
        }
        for public in ["203.0.113.7", "2001:db8::1", "100.128.0.1"] {
            assert_eq!(addresses(&facts(&[public, "10.0.0.1"], false, false)).advice, None, "{public}");
        }
    }

    #[test]
    fn a_server_that_is_configured_must_answer() {
        let facts = |answer: Result<u64, &str>| ServerFacts {
            check: "signaling",
            label: "mdn+ws://h/".to_owned(),
            answer: answer.map(Duration::from_millis).map_err(str::to_owned),
        };
        assert_eq!(server(&facts(Ok(12))), Finding::ok("signaling", "mdn+ws://h/ answers (12 ms)"));
        let away = server(&facts(Err("it can't be reached: connection refused")));
        assert!(away.level == Level::Fail && away.found.starts_with("mdn+ws://h/: it can't") && away.advice.is_some());
    }
}
