#![allow(clippy::unwrap_used)]
use super::*;

/// How long anything that is awaited may take.
const SOON: Duration = Duration::from_secs(20);

fn os(text: &str) -> Option<OsString> {
    Some(text.into())
}

/// A service manager at `address`, and the daemon's side of it.
fn managed(address: &OsStr, watchdog: Option<Duration>) -> (StdDatagram, ServiceManager) {
    let manager = StdDatagram::bind_addr(&super::address(address).unwrap()).unwrap();
    manager.set_read_timeout(Some(SOON)).unwrap();
    (manager, ServiceManager { socket: Some(connect(address).unwrap()), watchdog })
}

fn heard(manager: &StdDatagram) -> String {
    let mut buffer = [0; 4096];
    let length = manager.recv(&mut buffer).unwrap();
    String::from_utf8(buffer[..length].to_vec()).unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn paths_and_abstract_names_are_heard_and_all_else_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify").into_os_string();
    let name: OsString = format!("@laterna-{}", path.to_string_lossy()).into();
    for address in [&path, &name] {
        runtime().block_on(async {
            let (manager, service) = managed(address, None);
            service.ready("two\nlines").await;
            assert_eq!(heard(&manager), "READY=1\nSTATUS=two\\nlines");
            service.status("fine").await;
            assert_eq!(heard(&manager), "STATUS=fine");
            service.stopping().await;
            assert_eq!(heard(&manager), "STOPPING=1\nSTATUS=stopping");
            // It is gone: nothing is heard, and nothing else happens.
            drop(manager);
            service.status("fine").await;
        });
    }
    for wrong in ["/", "@", "relative", "vsock:2:1234"] {
        let error = address(wrong.as_ref()).unwrap_err().to_string();
        assert!(error.contains(wrong) && error.contains("/PATH or @NAME"), "{error}");
    }
    runtime().block_on(async {
        let error = connect(directory.path().join("absent").as_os_str()).unwrap_err().to_string();
        assert!(error.contains("absent") && error.contains("connecting"), "{error}");
        let error = connect(format!("/{}", "x".repeat(200)).as_ref()).unwrap_err().to_string();
        assert!(error.contains("xxx") && error.contains("reading it"), "{error}");
    });
}

#[test]
fn the_watchdog_is_the_one_of_this_process_alone() {
    let five = Some(Duration::from_secs(5));
    assert_eq!(interval(os("5000000"), None, 7).unwrap(), five);
    assert_eq!(interval(os("5000000"), os("7"), 7).unwrap(), five);
    assert_eq!(interval(os("5000000"), os("8"), 7).unwrap(), None);
    assert_eq!(interval(os("5000000"), os("seven"), 7).unwrap(), None);
    assert_eq!(interval(None, os("7"), 7).unwrap(), None);
    for wrong in ["0", "999", "-1", "1s", "18446744073709551615"] {
        let error = interval(os(wrong), None, 7).unwrap_err().to_string();
        assert!(error.contains("WATCHDOG_USEC") && error.contains(wrong), "{error}");
    }
}

#[test]
fn without_a_service_manager_nothing_is_said_and_nobody_looks() {
    runtime().block_on(async {
        let service = ServiceManager::default();
        service.ready("fine").await;
        let threads = Registry::default();
        let fed = tokio::time::timeout(
            Duration::from_millis(20),
            service.attend(&threads, watch::Sender::new(0).subscribe(), |_| "fine".to_owned()),
        );
        assert!(fed.await.is_err(), "feeding never returns");
    });
}

#[test]
fn the_watchdog_is_fed_while_threads_beat_and_the_one_that_hangs_is_named() {
    let name: OsString = format!("@laterna-feeding-{}", std::process::id()).into();
    let interval = Duration::from_millis(200);
    let threads = Registry::default();
    let beat = threads.beat("encode-h264");
    let watching = watch::Sender::new(0);
    runtime().block_on(async {
        let (manager, service) = managed(&name, Some(interval));
        manager.set_nonblocking(true).unwrap();
        let manager = UnixDatagram::from_std(manager).unwrap();
        let heard = async || {
            let mut buffer = [0; 256];
            let length = tokio::time::timeout(SOON, manager.recv(&mut buffer)).await.unwrap().unwrap();
            String::from_utf8(buffer[..length].to_vec()).unwrap()
        };
        let scene = async {
            for _ in 0..8 {
                assert_eq!(heard().await, "WATCHDOG=1");
            }
            beat.turn();
            let mut said = heard().await;
            while said == "WATCHDOG=1" {
                said = heard().await;
            }
            assert_eq!(said, "STATUS=the thread encode-h264 hangs; a restart is due");
            let silent = tokio::time::timeout(interval * 2, heard()).await;
            assert!(silent.is_err(), "{silent:?}");
            // What is not well is not covered up.
            watching.send_replace(7);
            let silent = tokio::time::timeout(BETWEEN + interval, heard()).await;
            assert!(silent.is_err(), "{silent:?}");
            beat.waiting(|| ());
            let mut said = heard().await;
            while said == "WATCHDOG=1" {
                said = heard().await;
            }
            assert_eq!(said, "STATUS=fine for 7");
        };
        tokio::select! {
            () = scene => {}
            () = service.attend(&threads, watching.subscribe(), |count| format!("fine for {count}")) => {}
        }
    });
}

#[test]
fn who_is_watching_is_told_once_a_second_at_most_with_or_without_a_watchdog() {
    let name: OsString = format!("@laterna-watching-{}", std::process::id()).into();
    let (threads, watching) = (Registry::default(), watch::Sender::new(0));
    runtime().block_on(async {
        let (manager, service) = managed(&name, None);
        manager.set_nonblocking(true).unwrap();
        let manager = UnixDatagram::from_std(manager).unwrap();
        let heard = async || {
            let mut buffer = [0; 256];
            let length = tokio::time::timeout(SOON, manager.recv(&mut buffer)).await.unwrap().unwrap();
            String::from_utf8(buffer[..length].to_vec()).unwrap()
        };
        let scene = async {
            let begun = Instant::now();
            for count in 1..=1000 {
                watching.send_replace(count);
                tokio::task::yield_now().await;
            }
            assert_eq!(heard().await, "STATUS=1000");
            watching.send_replace(999);
            assert_eq!(heard().await, "STATUS=999");
            assert!(begun.elapsed() >= BETWEEN * 2, "{:?}", begun.elapsed());
        };
        tokio::select! {
            () = scene => {}
            () = service.attend(&threads, watching.subscribe(), |count| count.to_string()) => {}
        }
    });
}
