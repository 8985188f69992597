"""`mdm`, the admin's command line."""
