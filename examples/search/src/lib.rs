//! The search example: handlers that search and download real pages, and a site on this machine for them to work on.
//! Reading order: [`site`].

pub mod site;
