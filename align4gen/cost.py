def estimate(**k): return 'estimate'
