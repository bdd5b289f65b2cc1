mod arithmetic;
mod driver;
mod histories;
mod interleavings;
mod model;
