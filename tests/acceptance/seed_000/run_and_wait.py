from magpie_local import Magpie

client = Magpie(api_key="your_api_key_here")

# Run a job and wait for completion
job = client.jobs.run_and_wait(
    name="batch-report",
    script="""
    echo 'Generating report...'
    python generate_report.py
    echo 'Report complete!'
    """,
    vcpus=2,
    memory_mb=1024,
    poll_interval=10
)

print(f"Job finished with status: {job.status}")

# Get the logs after completion
logs = client.jobs.get_logs(job.id)
print(logs)
