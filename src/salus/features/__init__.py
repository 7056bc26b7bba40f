"""Features: entities, feature views, point-in-time joins, the online store."""
