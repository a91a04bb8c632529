-- Each room has a database of its own.
CREATE DATABASE auth;
CREATE DATABASE metering;
CREATE DATABASE payment;
