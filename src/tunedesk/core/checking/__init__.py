"""What is wrong with a training file: findings with their line and message, and the fixes that are safe."""
