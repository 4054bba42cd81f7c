"""The rig: real servers and clients around a real snapgate, each on 127.0.0.1, each stopped by its pid."""
