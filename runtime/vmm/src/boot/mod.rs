//! Getting images into guest memory, whatever the processor: `image` copies a file, `extent`
//! finds a kernel's place and asks for huge pages there. What else a start takes is
//! [`crate::arch`]'s.

pub(crate) mod extent;
pub(crate) mod image;
