"""The platform on one machine: `up`, `down`, the supervisor of its processes, the doctor."""
