//! Real parts for the tests, started on demand and gone when the test binary ends, however it ends.

pub mod http;
pub mod installation;
pub mod locker;
pub mod postgres;
pub mod program;
pub mod radosgw;
pub mod s3;
pub mod session_proxy;
pub mod site;
pub mod smtp;
pub mod watchdog;
