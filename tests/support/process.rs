//! Child processes with a deadline for everything: output followed line by line, ends awaited, process groups taken along.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, kill_process_group, pidfd_open};

/// The kernel's unit of CPU time in `/proc/PID/stat`: fixed at 100 in its interface.
const TICKS_PER_SECOND: f64 = 100.0;

/// One line of output and when it was read.
#[derive(Debug, Clone)]
pub struct Line {
    /// When it came.
    pub at: Instant,
    /// The line without its end.
    pub text: String,
}

/// The output of a process, collected by a thread.
#[derive(Clone)]
pub struct Output(Arc<(Mutex<Collected>, Condvar)>);

#[derive(Default)]
struct Collected {
    lines: Vec<Line>,
    ended: bool,
}

impl Output {
    /// Follows a stream until it ends.
    pub fn follow(stream: impl Read + Send + 'static) -> Self {
        let output = Self(Arc::default());
        let writer = output.clone();
        std::thread::spawn(move || {
            for text in BufReader::new(stream).lines().map_while(Result::ok) {
                writer.0.0.lock().unwrap().lines.push(Line { at: Instant::now(), text });
                writer.0.1.notify_all();
            }
            writer.0.0.lock().unwrap().ended = true;
            writer.0.1.notify_all();
        });
        output
    }

    /// How many lines there are: a place from which to await later ones.
    pub fn mark(&self) -> usize {
        self.0.0.lock().unwrap().lines.len()
    }

    /// All lines so far.
    pub fn lines(&self) -> Vec<Line> {
        self.0.0.lock().unwrap().lines.clone()
    }

    /// Awaits the first line from `mark` on that is `wanted`; `None` once the deadline has passed or the stream has ended.
    pub fn wait_from(&self, mark: usize, within: Duration, wanted: impl Fn(&str) -> bool) -> Option<Line> {
        self.wait_nth(1, mark, within, wanted)
    }

    /// Awaits the `count`th line from `mark` on that is `wanted`.
    pub fn wait_nth(&self, count: usize, mark: usize, within: Duration, wanted: impl Fn(&str) -> bool) -> Option<Line> {
        let deadline = Instant::now() + within;
        let (mut next, mut found) = (mark, 0);
        let mut collected = self.0.0.lock().unwrap();
        loop {
            for line in collected.lines.iter().skip(next) {
                found += usize::from(wanted(&line.text));
                if found >= count {
                    return Some(line.clone());
                }
            }
            next = next.max(collected.lines.len());
            let left = deadline.saturating_duration_since(Instant::now());
            if collected.ended || left.is_zero() {
                return None;
            }
            collected = self.0.1.wait_timeout(collected, left).unwrap().0;
        }
    }

    /// Awaits a line from the beginning.
    pub fn wait(&self, within: Duration, wanted: impl Fn(&str) -> bool) -> Option<Line> {
        self.wait_from(0, within, wanted)
    }

    /// The last `count` lines as one text, for messages.
    pub fn tail(&self, count: usize) -> String {
        let lines = self.lines();
        lines[lines.len().saturating_sub(count)..].iter().map(|l| format!("  | {}\n", l.text)).collect()
    }
}

/// A child process that leads a process group and ends with this value.
pub struct Process {
    child: Child,
    pid: Pid,
}

impl Process {
    /// Starts a command in a process group of its own.
    pub fn spawn(command: &mut Command) -> Self {
        use std::os::unix::process::CommandExt;
        let child = command.process_group(0).spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let pid = Pid::from_child(&child);
        Self { child, pid }
    }

    /// The child, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to the process alone.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).unwrap();
    }

    /// Awaits the end; `None` if it is still running when the deadline passes.
    pub fn wait(&mut self, within: Duration) -> Option<ExitStatus> {
        if let Some(status) = self.child.try_wait().unwrap() {
            return Some(status);
        }
        let descriptor = pidfd_open(self.pid, PidfdFlags::empty()).unwrap();
        let timeout = Timespec::try_from(within).unwrap();
        poll(&mut [PollFd::new(&descriptor, PollFlags::IN)], Some(&timeout)).unwrap();
        self.child.try_wait().unwrap()
    }

    /// CPU time used so far, user and system, all threads.
    pub fn cpu(&self) -> Duration {
        cpu_of(self.id())
    }

    /// Kills the whole group and reaps the child.
    pub fn kill(&mut self) {
        // The group may be gone already; the child is reaped in either case.
        let _ = kill_process_group(self.pid, Signal::KILL);
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// CPU time that a process has used, by `/proc/PID/stat` (10 ms ticks, ended threads included).
pub fn cpu_of(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The command's name may hold spaces: fields are counted after its closing parenthesis, where `state` is the third.
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_secs_f64(ticks as f64 / TICKS_PER_SECOND)
}

/// The processes whose command line contains `text`.
pub fn processes_with(text: &str) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(text)
    })
    .collect()
}

/// Sends a signal to a process that may be gone already.
pub fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}
