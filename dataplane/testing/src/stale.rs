//! What processes that were killed have left behind.

use std::path::Path;

/// Returns true if `name` is `<prefix><pid>-…` and no process has that pid.
pub(crate) fn is_stale(name: &str, prefix: &str) -> bool {
    let pid = name
        .strip_prefix(prefix)
        .and_then(|rest| rest.split('-').next())
        .filter(|pid| pid.parse::<u32>().is_ok());
    // Without /proc nothing is known of other processes.
    let has_proc = Path::new("/proc/self").exists();
    has_proc && pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists())
}

#[cfg(test)]
mod tests {
    use super::is_stale;

    #[test]
    fn only_names_with_the_pid_of_no_process_are_stale() {
        let own = format!("x-{}-0", std::process::id());
        assert!(!is_stale(&own, "x-"));
        assert!(is_stale(&format!("x-{}-0", u32::MAX), "x-"));
        assert!(!is_stale(&format!("y-{}-0", u32::MAX), "x-"));
        assert!(!is_stale("x-notapid-0", "x-"));
    }
}
