"""Read and validate the deployment file."""
