//! Named points at which a test can end the process as a crash would.
//!
//! Without the feature `failpoints` [`reach`] is empty and nothing can trigger it.

/// Ends this process with SIGKILL if `AUTOREPLY_FAILPOINT` names this point: no destructor runs, as in a real crash.
/// `name#12` lets it pass eleven times: a crash in the middle of something.
#[cfg(feature = "failpoints")]
#[allow(clippy::disallowed_methods, reason = "a test sets the point from outside; the feature is never in a release")]
pub fn reach(point: &str) {
    static PASSED: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let Ok(wanted) = std::env::var("AUTOREPLY_FAILPOINT") else { return };
    let (name, times) = wanted.split_once('#').unwrap_or((&wanted, "1"));
    if name != point {
        return;
    }
    let passed = PASSED.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
    if times.parse().is_ok_and(|times: u32| passed >= times) {
        tracing::warn!(point, "fail point reached: this process ends now");
        let _ = std::process::Command::new("kill").args(["-KILL", &std::process::id().to_string()]).status();
        loop {
            std::thread::park();
        }
    }
}

/// Does nothing in this build.
#[cfg(not(feature = "failpoints"))]
pub fn reach(_point: &str) {}
