//! What is to be mounted, as a command line and its options name it.

use std::path::PathBuf;

use super::options::MountOptions;
use crate::error::Failure;

/// What is to be mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A container, if one has this name or id, else an image.
    Any(String),
    /// An image.
    Image(String),
    /// A container.
    Container(String),
    /// Layers given one by one.
    Layers(Layers),
}

impl Default for Source {
    fn default() -> Self {
        Source::Layers(Layers::default())
    }
}

/// Layers given one by one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Layers {
    /// Directories, top first.
    pub lowers: Vec<PathBuf>,
    /// Data-only directories below them.
    pub data_lowers: Vec<PathBuf>,
    /// An image below them all.
    pub image: Option<String>,
    /// The writable layer; without one nothing can be changed.
    pub upper: Option<PathBuf>,
    /// Its work directory.
    pub work: Option<PathBuf>,
}

/// As many directory layers as overlayfs takes.
const MOST_LAYERS: usize = 500;

impl Source {
    /// What a command line means: `named` is what stands before the mount point, if anything. With
    /// `image=`, `container=` or layers in the options it is only a label, as in fstab(5).
    ///
    /// # Errors
    /// `Usage` when it means nothing, or two things at once.
    pub fn choose(named: Option<&str>, options: &MountOptions) -> Result<Self, Failure> {
        if let Some(container) = &options.container {
            if options.image.is_some() || options.has_layers() {
                return Err(Failure::usage(
                    "container= names everything: leave image=, lowerdir= and upperdir= out",
                ));
            }
            return Ok(Source::Container(container.clone()));
        }
        if options.has_layers() {
            return Layers::of(options).map(Source::Layers);
        }
        match (&options.image, named) {
            (Some(image), _) => Ok(Source::Image(image.clone())),
            (None, Some(named)) => Ok(Source::Any(named.to_owned())),
            (None, None) => Err(Failure::usage(
                "nothing to mount: name an image or a container, or give image=, container= or \
                 lowerdir= with -o",
            )),
        }
    }
}

impl Layers {
    fn of(options: &MountOptions) -> Result<Self, Failure> {
        let layers = Self {
            lowers: options.lowers.clone(),
            data_lowers: options.data_lowers.clone(),
            image: options.image.clone(),
            upper: options.upper.clone(),
            work: options.work.clone(),
        };
        let count = layers.lowers.len() + layers.data_lowers.len();
        let wrong = if layers.upper.is_some() && layers.work.is_none() {
            "upperdir= needs workdir=, a directory beside it on the same file system"
        } else if layers.lowers.is_empty() && layers.image.is_none() {
            "no layer below: give lowerdir= or image="
        } else if count > MOST_LAYERS {
            "more than 500 layers in lowerdir="
        } else {
            return Ok(layers);
        };
        Err(Failure::usage(wrong))
    }

    /// What `/proc/mounts` shows as the source when nothing else is said: the layers, if they fit
    /// into the page that mount(2) takes.
    #[must_use]
    pub fn label(&self) -> String {
        let paths = self.lowers.iter().map(|p| p.to_string_lossy().into_owned());
        let label = paths
            .chain(self.image.clone())
            .collect::<Vec<_>>()
            .join(":");
        if label.is_empty() || label.len() > LABEL_MOST {
            return "strata".into();
        }
        label
    }
}

/// A page, without its NUL.
const LABEL_MOST: usize = 4095;

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(named: Option<&str>, words: &str) -> Result<Source, String> {
        let mut options = MountOptions::default();
        options.parse(words).unwrap();
        Source::choose(named, &options).map_err(|e| e.to_string())
    }

    #[test]
    fn a_command_line_means_one_thing() {
        assert_eq!(chosen(Some("a"), ""), Ok(Source::Any("a".into())));
        let image = Ok(Source::Image("b".into()));
        assert_eq!(chosen(Some("none"), "image=b"), image);
        let container = Ok(Source::Container("c".into()));
        assert_eq!(chosen(None, "container=c"), container);
        let words = "lowerdir=/l:/m,upperdir=/u,workdir=/w";
        let Ok(Source::Layers(layers)) = chosen(Some("overlay"), words) else {
            panic!()
        };
        assert_eq!(layers.lowers, ["/l", "/m"].map(PathBuf::from));
        assert_eq!(layers.label(), "/l:/m");
        assert!(chosen(None, "image=b,upperdir=/u,workdir=/w").is_ok());
        assert!(chosen(None, "").unwrap_err().starts_with("nothing"));
        for wrong in [
            "upperdir=/u,workdir=/w",
            "lowerdir=/l,upperdir=/u",
            "image=a,container=b",
            "lowerdir=/l,container=b",
            &format!("lowerdir={}", ["/l"; 501].join(":")),
        ] {
            assert!(chosen(None, wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_label_fits_into_a_page() {
        let mut layers = Layers {
            lowers: vec!["/l".into(); 1000],
            ..Layers::default()
        };
        assert_eq!(layers.label().len(), 2999);
        layers.lowers = vec!["/lower".into(); 1000];
        assert_eq!(layers.label(), "strata");
    }
}
