"""What people bring in: citizens' reports, patrols, and the plan of a river. Nothing in governance imports it."""
