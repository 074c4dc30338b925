"""Apache Kafka: how clients reach it, which topics there are, and the jars for a local one."""
