"""A thin, readable library under the open reproduction of SpatialAvatar-0."""
