"""Starting runs where they belong, and starting them again until they are done: this machine, Slurm, GKE, TPU slices.

The engines are Slurm, JobSet and gcloud; what is here renders what they take, and watches where they do not.
"""
