mod arithmetic;
mod driver;
mod groups;
mod histories;
mod interleavings;
mod model;
mod world;
