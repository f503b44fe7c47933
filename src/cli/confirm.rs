//! Asking before something is removed.

use super::print;
use crate::error::Failure;

/// Whether whoever runs the command wants to go on, asked as Docker asks. No answer is a no.
///
/// # Errors
/// What reading standard input reports.
pub fn confirmed(warning: &str) -> Result<bool, Failure> {
    print(&format!(
        "WARNING! {warning}\nAre you sure you want to continue? [y/N] "
    ))?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}
