//! A RabbitMQ and a Redis for one use, as `cargo xtask` and the chaos program start them. [`services`] has both at once;
//! [`rabbitmq`] and [`redis`] can also be stopped, killed and started again; [`languages`] has what workers in other
//! languages import; [`disk`] is for filling up; [`tied`] ends with us what we started; [`book`] reads the pages of the
//! documentation for their tests. None builds on phasework's own crates, so that it is there before they compile.

pub mod book;
pub mod disk;
pub mod install;
pub mod languages;
pub mod rabbitmq;
pub mod redis;
pub mod services;
pub mod tied;
