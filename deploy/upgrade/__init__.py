"""The upgrade from version 1, `carnet upgrade`. It only reads version 1's tables."""
