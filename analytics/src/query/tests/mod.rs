mod corrections;
mod duckdb;
mod equal;
mod growth;
mod refusals;
mod shipped;
mod slices;
mod world;
