//! A RabbitMQ and a Redis for one use, as `cargo xtask` and the chaos program start them. [`services`] has both at once;
//! [`rabbitmq`] and [`redis`] can also be stopped, killed and started again; [`tied`] ends with us what we started. It
//! never builds on phasework's own crates, so that it is there before they compile.

pub mod install;
pub mod rabbitmq;
pub mod redis;
pub mod services;
pub mod tied;
