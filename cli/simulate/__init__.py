"""`mdm simulate`: many reference devices in one process, some of which fail, to try a system under load."""
