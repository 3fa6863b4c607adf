//! The end of all threads, which may take too long.

use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use tokio::sync::oneshot;

/// Joins `threads`, then drops `rest`, which may join others; what takes longer than `within` is left behind.
pub(super) async fn close<T: Send + 'static>(
    threads: Vec<JoinHandle<()>>,
    rest: T,
    within: Duration,
) -> anyhow::Result<()> {
    let (closed, closing) = oneshot::channel();
    // Waiting for threads blocks, and the one that calls must hear signals meanwhile.
    let closer = move || {
        let panicked = threads.into_iter().filter_map(|thread| thread.join().err()).count();
        drop(rest);
        // Nobody listens once the time is up.
        let _ = closed.send(panicked);
    };
    std::thread::Builder::new().name("closing".to_owned()).spawn(closer).context("thread closing")?;
    match tokio::time::timeout(within, closing).await {
        Ok(Ok(0)) => Ok(()),
        Ok(_) => Err(anyhow!("a thread panicked; this is a bug, its message is above")),
        Err(_) => Err(anyhow!("the threads did not end within {within:?}; they are left behind")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn closed(threads: Vec<JoinHandle<()>>, within: Duration) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(close(threads, (), within))
    }

    #[test]
    fn threads_that_end_are_an_orderly_end_and_a_panic_is_none() {
        let deadline = Duration::from_secs(20);
        assert!(closed(vec![std::thread::spawn(|| ())], deadline).is_ok());
        let panicked = std::thread::spawn(|| panic!("as the test wants"));
        assert!(closed(vec![panicked], deadline).unwrap_err().to_string().contains("panicked"));
    }

    #[test]
    fn a_thread_that_does_not_end_is_left_behind() {
        let (release, held) = std::sync::mpsc::sync_channel::<()>(1);
        let stuck = std::thread::spawn(move || {
            let _ = held.recv();
        });
        let error = closed(vec![stuck], Duration::from_millis(20)).unwrap_err();
        assert!(error.to_string().contains("left behind"), "{error}");
        drop(release);
    }
}
