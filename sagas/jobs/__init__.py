"""The job platform's sagas, as definitions over ports. Not in the wheel; the rest of `sagas` never imports it."""
