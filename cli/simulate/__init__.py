"""`mdm simulate`: many reference devices in one process, some of which fail, for load tests."""
