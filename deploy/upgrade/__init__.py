"""The upgrade from version 1: `carnet upgrade`. Version 1's tables are only ever read."""
