"""The guided tour that `muster demo` gives."""
