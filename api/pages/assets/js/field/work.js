// The screens of work at the water.
