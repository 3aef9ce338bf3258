//! Everything that needs real parts: PostgreSQL clusters, S3 servers, the program itself.
