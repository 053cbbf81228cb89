//! Full and failing disks, and the space and time that the store needs.

mod faults;
mod slices;
mod space;
mod stores;
mod work;
