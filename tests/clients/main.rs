//! Real images through the real `strata` binary, checked by the tools that people use beside it:
//! skopeo, umoci, oci-image-tool and podman. What is not installed is skipped with a loud line;
//! `STRATA_TEST_NO_SKIP=1` makes that a failure. `scripts/test` installs everything and sets it.

#[cfg(test)]
mod analysis;
#[cfg(test)]
#[path = "../common/mod.rs"]
mod common;
#[cfg(test)]
mod docker;
#[cfg(test)]
mod docker_storage;
#[cfg(test)]
mod exchange;
#[cfg(test)]
mod formats;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod golden_containers;
#[cfg(test)]
mod isolation;
#[cfg(test)]
mod look;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod packages;
#[cfg(test)]
mod peers;
#[cfg(test)]
mod podman_storage;
#[cfg(test)]
mod rootless;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod story;
