//! [`Stack`]: the layers of an image, one above the other.

use super::image::Image;
use super::target::Span;
use super::tree::Tree;
use crate::error::Failure;

pub use crate::layer::stack::{Merged, Part};

/// The layers of an image.
pub type Stack = crate::layer::stack::Stack<Tree>;

impl Stack {
    /// The layers of an image.
    ///
    /// # Errors
    /// `System` for a damaged index.
    pub fn of(image: &Image) -> Result<Self, Failure> {
        let trees = image
            .layers
            .iter()
            .map(|layer| image.tree_of(Span::Layer(layer.number)));
        Ok(Self::new(trees.collect::<Result<_, _>>()?))
    }
}
