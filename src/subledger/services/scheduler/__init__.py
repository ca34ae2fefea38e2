"""What is due: payment retries by policy, and the steps that move due work of every service."""
