//! What `image prune` and `system prune` have in common.

use super::confirm::confirmed;
use super::format::exact_size;
use super::{print, print_line};
use crate::error::Failure;
use crate::store::images::ImageFilters;
use crate::store::names::Removed;
use crate::store::prune::Prune;

/// Which images are to go, and whether to ask first.
#[derive(Debug, clap::Args)]
pub struct Choice {
    /// All images that no container uses, not only those without a name.
    #[arg(short, long)]
    all: bool,

    /// Don't ask.
    #[arg(short, long)]
    force: bool,

    /// Only those that fit: until=, label= or label!=.
    #[arg(long = "filter", value_name = "FILTER")]
    filters: Vec<String>,
}

impl Choice {
    /// Which images, in general.
    pub fn which(&self) -> Prune {
        match self.all {
            true => Prune::Unused,
            false => Prune::Dangling,
        }
    }

    /// The same in words.
    pub fn in_words(&self) -> &'static str {
        match self.which() {
            Prune::Unused => "all images without at least one container associated to them",
            Prune::Dangling => "all dangling images",
        }
    }

    /// Which of them.
    ///
    /// # Errors
    /// `Usage` for a filter that there isn't.
    pub fn filters(&self) -> Result<ImageFilters, Failure> {
        for word in &self.filters {
            let key = word.split('=').next().unwrap_or_default();
            if !matches!(key, "until" | "label" | "label!" | "dangling") {
                return Err(Failure::usage(format!(
                    "invalid filter '{}': there are until=, label= and label!=",
                    word.escape_debug()
                )));
            }
        }
        ImageFilters::parse(&self.filters)
    }

    /// Whether to go on after this warning.
    pub fn is_confirmed(&self, warning: &str) -> Result<bool, Failure> {
        Ok(self.force || confirmed(warning)?)
    }
}

/// Docker's list of what a prune removed, and what that gave.
pub fn print_pruned(removed: &[Removed], freed: u64) -> Result<(), Failure> {
    if !removed.is_empty() {
        print_line("Deleted Images:")?;
        for removed in removed {
            match removed {
                Removed::Untagged(name) => print_line(format_args!("untagged: {name}"))?,
                Removed::Deleted(digest) => print_line(format_args!("deleted: {digest}"))?,
            }
        }
        print("\n")?;
    }
    print_line(format_args!("Total reclaimed space: {}", exact_size(freed)))
}
