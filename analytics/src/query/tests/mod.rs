mod duckdb;
mod equal;
mod refusals;
mod shipped;
mod world;
